"""The report in a browser: no error, controls that work, pictures that load, any width.

It needs Chromium: Debian's, or Playwright's own (`playwright install chromium`). Without one it
is skipped; with IAMT_BROWSER=required it fails instead.
"""

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
    "atlas-image",
    "atlas-opacity",
    "attributes-kind",
]
PLOTS = ["noise-plot", "curve-plot", "plane-plot", "attributes-plot", "features-plot"]


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
    # The photograph eight times, and its eight overlays but one.
    assert len(widths) == 2 * (reports.TOP + 3) - 1 and min(widths) > 0


@pytest.mark.parametrize(
    "slider, plot", [("n", "curve"), ("beta", "curve"), ("sigma", "plane"), ("n", "plane")]
)
def test_each_slider_changes_its_plot_and_the_read_out(opened, made, slider, plot):
    page = opened()
    before, said = page.inner_html(f"#{plot}-plot"), page.inner_text("#plane-readout")
    press(page, f"slider-{slider}")
    assert page.inner_html(f"#{plot}-plot") != before
    assert page.inner_text("#plane-readout") != said
    place = {"n": 1, "beta": 0, "sigma": 0}
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


def test_attribute_image_and_opacity_change_the_atlas(opened):
    page = opened()
    seen = [page.inner_html("#atlas-tiles")]
    page.select_option("#atlas-attribute", label="Big Nose")
    seen.append(page.inner_html("#atlas-tiles"))
    assert page.inner_text("#atlas-readout").startswith("Big Nose, image 1: ")
    page.select_option("#atlas-image", label="3")
    seen.append(page.inner_html("#atlas-tiles"))
    assert page.inner_text("#atlas-readout").startswith("Big Nose, image 3: ")
    press(page, "atlas-opacity", "ArrowLeft")
    seen.append(page.inner_html("#atlas-tiles"))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_phone_scrolls_one_way_only(opened, scheme):
    page = opened(viewport=PHONE, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # Tables that are folded away are as wide as they like, inside their own frame.
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_keyboard_reaches_every_control(opened):
    page, reached = opened(), set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert reached >= set(CONTROLS)


def test_plots_follow_the_scheme(opened):
    page = opened(color_scheme="light")
    ink = "getComputedStyle(document.querySelector('#curve-plot .xtick text')).fill"
    before = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{ink} !== '{before}'")
