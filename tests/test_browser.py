"""The report in a browser: no error, controls that work, pictures that load, any width.

It needs Chromium: Debian's, or Playwright's own (`playwright install chromium`). Without one it
is skipped; with IAMT_BROWSER=required it fails instead.
"""

import numpy as np
import pytest
import reports
from browsing import PHONE, SCHEMES, chromium

from iamt_jax.report.page import write_page

pytestmark = pytest.mark.slow

CONTROLS = [
    "noise-metric",
    "plane-metric",
    "slider-n",
    "slider-beta",
    "slider-sigma",
    "atlas-attribute",
    "atlas-opacity",
    "attributes-kind",
]
PLOTS = ["noise-plot", "curve-plot", "plane-plot", "attributes-plot", "features-plot"]
PLOTS += ["paper-plot"]


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def made():
    return reports.everything()


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    write_page(*made, path)
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page; at the end it must have said nothing and asked the network for nothing."""
    complaints, contexts = [], []

    def look(page):
        page.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        known = ("file:", "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(known) or complaints.append(r.url[:200]))

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        look(page)
        page.goto(address)
        for plot in PLOTS:
            page.wait_for_selector(f"#{plot} .main-svg")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def press(page, control, key="ArrowRight"):
    page.focus(f"#{control}")
    page.keyboard.press(key)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_plot_is_drawn_and_every_image_loads(opened, scheme):
    page = opened(color_scheme=scheme)
    for plot in PLOTS:
        assert page.locator(f"#{plot} .js-line, #{plot} .main-svg image").count() > 0, plot
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert min(widths) > 0
    # Photographs with an overlay each, but for one.
    assert page.locator("#atlas-images img").count() == 2 * reports.SHOWN
    assert page.locator("#atlas-tiles img").count() == 2 * (reports.TOP + 2) - 1
    assert page.locator(".hero img").count() > 0


@pytest.mark.parametrize(
    "slider, plot", [("n", "curve"), ("beta", "curve"), ("sigma", "plane"), ("n", "plane")]
)
def test_each_slider_changes_its_plot_and_the_read_out(opened, made, slider, plot):
    page = opened()
    before, said = page.inner_html(f"#{plot}-plot"), page.inner_text("#plane-readout")
    press(page, f"slider-{slider}")
    assert page.inner_html(f"#{plot}-plot") != before
    assert page.inner_text("#plane-readout") != said
    place = {"n": 1, "beta": 0, "sigma": 1}
    place[slider] += 1
    score = made[1]["scores"]["accuracy"][place["sigma"]][place["n"]][place["beta"]]
    assert f": accuracy {100 * score:.1f} %" in page.inner_text("#plane-readout")


@pytest.mark.parametrize(
    "control, plot",
    [
        ("noise-metric", "noise-plot"),
        ("plane-metric", "plane-plot"),
        ("attributes-kind", "attributes-plot"),
    ],
)
def test_a_choice_draws_another_plot(opened, control, plot):
    page = opened()
    before = page.inner_html(f"#{plot}")
    page.select_option(f"#{control}", index=1)
    assert page.inner_html(f"#{plot}") != before


def test_attribute_image_and_opacity_change_the_atlas(opened, made):
    page = opened()
    seen = [page.inner_html("#atlas-tiles")]
    page.select_option("#atlas-attribute", label="Big Nose")
    seen.append(page.inner_html("#atlas-tiles"))
    rows = made[3]["atlas_rows"][reports.ATTRIBUTES.index("Big_Nose")]
    said = page.inner_text("#atlas-readout")
    assert said.startswith(f"Big Nose, image {rows[0]} of the split: has it; the network says ")
    page.locator("#atlas-images button").nth(2).click()
    seen.append(page.inner_html("#atlas-tiles"))
    said = page.inner_text("#atlas-readout")
    assert said.startswith(f"Big Nose, image {rows[2]} of the split: does not have it; ")
    press(page, "atlas-opacity", "ArrowLeft")
    seen.append(page.inner_html("#atlas-tiles"))
    assert len(set(seen)) == 4


def test_each_image_of_the_atlas_has_its_true_label(opened):
    page = opened()
    captions = page.locator("#atlas-images figcaption").all_inner_texts()
    labels = [caption.split(";")[0] for caption in captions]
    assert labels == ["has it"] * 2 + ["does not have it"] * 2
    pressed = "[...document.querySelectorAll('#atlas-images button')].map((b) => b.ariaPressed)"
    assert page.evaluate(pressed) == ["true", "false", "false", "false"]


def column(page, index):
    cells = page.locator(f"#accuracy-table tbody:nth-of-type(2) tr > :nth-child({index + 1})")
    return cells.all_inner_texts()


def test_the_table_of_attributes_is_sorted_by_the_column_that_is_clicked(opened):
    page = opened()
    assert [float(x) for x in column(page, 1)] == sorted(float(x) for x in column(page, 1))
    average = page.inner_text("#accuracy-table tbody:nth-of-type(1)")
    names = sorted(column(page, 0))
    headers = page.locator("#accuracy-table thead button")
    headers.nth(4).click()
    found = [float(x) for x in column(page, 4)]
    assert found == sorted(found)
    headers.nth(4).click()
    assert [float(x) for x in column(page, 4)] == found[::-1]
    headers.nth(0).click()
    assert column(page, 0) == names
    assert page.inner_text("#accuracy-table tbody:nth-of-type(1)") == average
    assert page.locator("#accuracy-table th[aria-sort]").count() == 1


def test_tone_curves_start_at_a_noise_with_one_scale_of_colours(opened, made):
    page = opened()
    assert page.inner_text("#value-sigma") == "0.2"
    scores = 100 * np.array(made[1]["scores"]["accuracy"])
    scale = "(({zmin, zmax}) => [zmin, zmax])(document.getElementById('plane-plot').data[0])"
    np.testing.assert_allclose(page.evaluate(scale), [scores.min(), scores.max()], atol=1e-3)
    press(page, "slider-sigma")
    np.testing.assert_allclose(page.evaluate(scale), [scores.min(), scores.max()], atol=1e-3)


def test_the_figures_of_the_paper(opened, made):
    page, arrays = opened(), made[3]
    assert page.locator("#figure-4 thead th").count() == 1 + len(reports.ATTRIBUTES)
    found = page.locator("#figure-4 tbody tr").nth(1).locator("td").all_inner_texts()
    assert [int(text.split(" (")[0]) for text in found] == arrays["atlas_channels"][:, 0].tolist()
    assert page.locator("#figure-4 tbody tr").count() == 4
    lines = page.evaluate("document.getElementById('paper-plot').data")
    accuracy = np.array(made[1]["scores"]["accuracy"])
    pairs = ((1, 0), (1, 0.5), (1, 1), (4, 0), (4, 1))
    names = [f"n {n}, β {beta}" for n, beta in pairs]
    assert [line["name"] for line in lines] == [*names, "majority"]
    np.testing.assert_allclose(lines[0]["y"], 100 * accuracy[:, 1, 0], atol=1e-3)


def test_the_matrix_of_features_names_its_channels(opened):
    page = opened()
    ticks = page.locator("#features-plot .xtick text").all_text_contents()
    assert sorted(map(int, ticks)) == list(range(reports.CHANNELS))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_phone_scrolls_one_way_only(opened, scheme):
    page = opened(viewport=PHONE, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # Tables that are folded away are as wide as they like, inside their own frame.
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_keyboard_reaches_every_control(opened):
    page, reached = opened(), set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert reached >= set(CONTROLS)


def test_plots_follow_the_scheme(opened):
    page = opened(color_scheme="light")
    ink = "getComputedStyle(document.querySelector('#curve-plot .xtick text')).fill"
    before = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{ink} !== '{before}'")
