"""The explorer in a browser: it opens, follows its controls, takes files, good and bad, and ends.

It needs Gradio (`pip install -e '.[explore]'`) and a browser (`browsing`).
"""

import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browsing import PHONE, SCHEMES, chromium, required
from cli import main
from PIL import Image

from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys
from iamt_jax.explorer.damage import KINDS, kind_name
from iamt_jax.inference.classifier import load
from iamt_jax.synthetic import faces, render

NO_GRADIO = "Gradio is not installed: pip install -e '.[explore]'"
HAS_GRADIO = importlib.util.find_spec("gradio") is not None

# Before any fixture runs; one that is required fails in `Server`.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_GRADIO and not required(), reason=NO_GRADIO),
]

WATCH = """
import sys
HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", None, "")
def watch(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    else:
        return
    if host not in HERE and host not in (b"127.0.0.1", b"localhost"):
        print("OUTSIDE", event, host, file=sys.stderr, flush=True)
sys.addaudithook(watch)
"""
"""Says of every address that Python looks up or connects to, unless it is this machine's."""

RUN = f"{WATCH}\nfrom iamt_jax.commands.main import main\nsys.exit(main(sys.argv[1:]))"

TABLE, PICTURES, MAPS, CURVE = "#table .scroll", "#compared .compared", "#maps .maps", "#curve svg"
"""What the controls change."""

PATIENCE = 120_000
"""Milliseconds; a loaded machine is slow."""


class Server:
    """`python -m iamt_jax explore` in a process of its own."""

    def __init__(self, workdir, temporary, *flags):
        if not HAS_GRADIO:
            pytest.fail(NO_GRADIO)
        self.temporary, self.errors = temporary, temporary.with_suffix(".err")
        temporary.mkdir()
        command = ["explore", "--workdir", str(workdir), "--no-browser", *flags]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, *command],
                cwd=Path(__file__).parents[1],
                env=os.environ | {"TMPDIR": str(temporary)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if match := re.fullmatch(rf"exploring {workdir} at (\S+) \(Ctrl-C ends it\)\n", line):
                self.address = match[1]
                return
        pytest.fail(f"it did not start: {self.said} {self.errors.read_text()}")

    def end(self, number):
        """Sends a signal; returns the exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()

    def complaints(self):
        """What it said on stderr."""
        return self.errors.read_text()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def calibrated(finished, tmp_path_factory):
    """A copy of the finished run, calibrated by the command line."""
    workdir = tmp_path_factory.mktemp("browsed") / "W"
    shutil.copytree(finished, workdir)
    assert main(["calibrate", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def server(browser, calibrated, tmp_path_factory):
    """One server for all tests; in the end it must have said nothing, and nothing may be left."""
    server = Server(calibrated, tmp_path_factory.mktemp("server") / "tmp")
    yield server
    assert server.end(signal.SIGINT) == 0
    assert not server.complaints()
    assert not list(server.temporary.iterdir())


@pytest.fixture
def opened(browser, server):
    """Opens the page; at the end it must have reported no error and asked nobody else."""
    complaints, contexts = [], []

    def open_page(parameters="", **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        known = (server.address + "/", "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(known) or complaints.append(r.url[:200]))
        page.goto(f"{server.address}/{parameters}")
        page.wait_for_selector("#table tbody tr")
        page.wait_for_selector("#examples img")
        # The page has read its address, and completed it.
        page.wait_for_function("new URL(location).searchParams.has('order')")
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def changes(page, act, *parts):
    """Does something; waits until these parts of the page are others."""
    before = {part: page.inner_html(part) for part in parts}
    act()
    for part, content in before.items():
        page.wait_for_function(
            "([part, content]) => document.querySelector(part).innerHTML !== content",
            arg=[part, content],
        )


def press(page, slider, times=1, key="ArrowRight"):
    page.focus(f"#{slider} input[type=range]")
    for _ in range(times):
        page.keyboard.press(key)


def shown(page):
    """Probabilities in the table, by attribute."""
    rows = page.locator("#table tbody tr")
    names = rows.evaluate_all("(rows) => rows.map((row) => row.dataset.attribute)")
    values = rows.evaluate_all("(rows) => rows.map((row) => Number(row.dataset.now))")
    return dict(zip(names, values, strict=True))


def says(page, classifier, picture, **curve):
    """Waits until the table has what the classifier says of a picture."""
    expected = dict(zip(classifier.attributes, classifier(picture, **curve).tolist(), strict=True))
    page.wait_for_function(
        """(expected) => [...document.querySelectorAll("#table tbody tr")].every((row) =>
          Math.abs(expected[row.dataset.attribute] - row.dataset.now / 100) < 0.0006)""",
        arg=expected,
    )
    assert len(shown(page)) == len(expected)
    return np.array(list(expected.values()))


def drop(page, name, content, kind="image/png"):
    page.set_input_files(
        "#file input[type=file]", {"name": name, "mimeType": kind, "buffer": content}
    )


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def classifier(calibrated):
    return load(calibrated)


@pytest.fixture(scope="module")
def photograph():
    """A rendered face that is none of the examples."""
    return render(*faces(3, 7, "test"), 96)[2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_opens_with_a_face(opened, classifier, scheme):
    page = opened(color_scheme=scheme)
    size = classifier.run.config.data.size
    says(page, classifier, render(*faces(6, 0, "test"), size)[0])
    assert page.locator("#examples img").count() == 6
    assert page.locator("#curve svg .bent").count() == 1
    page.wait_for_function("[...document.images].every((image) => image.naturalWidth > 0)")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()")
    assert (int(dark.split(",")[0]) < 128) == (scheme == "dark")


@pytest.mark.parametrize(
    "slider, parts",
    [
        ("sigma", [TABLE, PICTURES, MAPS]),
        ("n", [TABLE, PICTURES, MAPS, CURVE]),
        ("beta", [TABLE, PICTURES, MAPS, CURVE]),
    ],
)
def test_each_slider_changes_what_depends_on_it(opened, slider, parts):
    page = opened()
    changes(page, lambda: press(page, slider, 8), *parts)


def test_the_page_says_what_the_classifier_says(opened, classifier, photograph):
    page = opened()
    drop(page, "face.png", encoded(photograph))
    plain = says(page, classifier, photograph)
    press(page, "n", 4)
    steep = says(page, classifier, photograph, n=2.5)
    assert page.inner_text("#said-n b") == "2.5"
    press(page, "beta", 20)
    both = says(page, classifier, photograph, n=2.5, beta=0.2)
    # Or the page would be right by standing still.
    assert np.abs(steep - plain).max() > 0.003 and np.abs(both - steep).max() > 0.003
    page.wait_for_selector("#curve .said:has-text('n = 2.5, β = 0.20')")
    assert page.locator(".note", has_text="face.png").count() == 1


def test_attribute_order_and_example_change_the_page(opened):
    page = opened()
    assert page.inner_text("#maps .said >> nth=0").startswith("Smiling: ")
    page.click("#attribute input")
    changes(page, lambda: page.get_by_role("option", name="Big Nose").click(), MAPS)
    page.wait_for_selector("#maps .said:has-text('Big Nose: ')")
    changes(page, lambda: page.check("#order input[value=name]"), TABLE)
    assert list(shown(page))[0] == "5_o_Clock_Shadow"
    changes(page, lambda: page.click("#examples button >> nth=3"), PICTURES, MAPS, TABLE)
    assert page.locator(".note", has_text="Rendered face 4").count() == 1


def test_auto_estimates_the_noise_and_takes_it_out(opened):
    page = opened()
    press(page, "sigma", 20)
    page.wait_for_selector("text=noise 0.20")
    changes(page, lambda: page.check("#auto input"), TABLE, PICTURES, MAPS, CURVE)
    assert page.locator("#curve .band").count() == 1
    (said,) = re.findall(r"estimated noise of sigma ([0-9.]+); n = 1", page.inner_text("#curve"))
    assert float(said) == pytest.approx(0.2, rel=0.25)
    assert "after auto" in page.inner_text(PICTURES)
    assert page.locator(f"{PICTURES} img").count() == 3
    assert "has denoiser, curve" in page.inner_text("#curve")
    page.wait_for_selector("#n input[type=range]:disabled")
    page.wait_for_selector("#beta input[type=range]:disabled")
    changes(page, lambda: page.uncheck("#auto input"), TABLE, PICTURES, CURVE)
    page.wait_for_selector("#n input[type=range]:enabled")


def choose_damage(page, name):
    """Chooses an entry of the menu; returns all of them."""
    page.click("#damage input")
    page.wait_for_selector("[role=option]")
    options = page.get_by_role("option")
    offered = options.evaluate_all("(all) => all.map((one) => one.getAttribute('aria-label'))")
    page.get_by_role("option", name=name, exact=True).click()
    return offered


def test_a_family_and_a_severity_degrade_the_picture(opened, classifier):
    page = opened("?noise=0.2")
    page.wait_for_selector("text=noise 0.20")
    assert page.is_visible("#sigma") and not page.is_visible("#severity")
    for name, steps, family, severity in (
        ("motion blur", 0, "motion_blur", 3),
        ("JPEG compression", 2, "jpeg_compression", 5),
    ):
        offered = choose_damage(page, name)
        assert offered == [kind_name(kind) for kind in KINDS]
        page.wait_for_selector("#severity input[type=range]")
        page.wait_for_selector("#sigma", state="hidden")
        press(page, "severity", steps)
        page.wait_for_selector(f"{PICTURES} >> text={name} {severity}")
        address = parse_qs(urlsplit(page.url).query)
        assert (address["damage"], address["severity"]) == ([family], [str(severity)])
        assert "noise" not in address
        face = render(*faces(6, 0, "test"), classifier.run.config.data.size)[0]
        keys = degradation_keys(["picture"], family, severity, 0)
        seen = degrade(face[None] / np.float32(255), family, severity, keys)
        says(page, classifier, np.asarray(seen)[0])
        said = page.inner_text("#compared .verdict span >> nth=0")
        start = name[0].upper() + name[1:]
        assert re.fullmatch(rf"{start} of severity {severity} flipped \d+ of 40 answers\.", said)
    # Another picture and a reload keep it; noise comes back with its slider.
    changes(page, lambda: page.click("#examples button >> nth=3"), PICTURES, TABLE)
    page.wait_for_function("new URL(location).searchParams.get('face') === '4'")
    before = controls(page)
    assert before["damage"] == "JPEG compression" and before["severity"] == "5"
    page.reload()
    page.wait_for_selector("#compared >> text=JPEG compression 5")
    page.wait_for_selector("#severity input[type=range]")
    assert controls(page) == before
    choose_damage(page, "noise")
    page.wait_for_selector("#sigma input[type=range]")
    page.wait_for_selector("#severity", state="hidden")
    page.wait_for_selector("#compared >> text=no noise")
    page.wait_for_function("!new URL(location).searchParams.has('severity')")


def test_it_says_what_noise_and_treatment_did(opened, photograph):
    page = opened("?noise=0.4&auto=1")
    words = r"Noise flipped \d+ of 40 answers; after auto \d+ (is|are)( still)? flipped\."
    wrong = r"Wrong answers: \d+ on the clean picture, \d+ under noise, \d+ after auto\."
    page.wait_for_selector("#compared >> text=after auto")
    verdict = page.locator("#compared .verdict span")
    assert re.fullmatch(words, verdict.nth(0).inner_text())
    assert re.fullmatch(wrong, verdict.nth(1).inner_text())
    labels = page.locator("#table td.label").all_inner_texts()
    assert len(labels) == 40 and set(labels) == {"yes", "no"}
    drop(page, "face.png", encoded(photograph))
    page.wait_for_selector(".note:has-text('face.png')")
    assert verdict.count() == 1 and page.locator("#table td.label").count() == 0


def controls(page):
    """What the controls and the page's parts show."""
    return {
        "attribute": page.input_value("#attribute input"),
        "damage": page.input_value("#damage input"),
        **{
            slider: page.input_value(f"#{slider} input[type=range]")
            for slider in ("sigma", "severity")
            if page.is_visible(f"#{slider}")
        },
        "n": page.inner_text("#said-n b"),
        "beta": page.input_value("#beta input[type=range]"),
        "auto": page.is_checked("#auto input"),
        "order": page.locator("#order input:checked").get_attribute("value"),
        "pictures": page.inner_html(PICTURES),
        "table": page.inner_html(TABLE),
    }


def test_a_reload_restores_the_page(opened):
    page = opened()
    changes(page, lambda: page.click("#examples button >> nth=3"), PICTURES)
    press(page, "sigma", 12)
    press(page, "n", 4)
    press(page, "beta", 20, "ArrowLeft")
    page.check("#order input[value=change]")
    page.click("#attribute input")
    page.get_by_role("option", name="Big Nose").click()
    page.wait_for_selector("#maps .said:has-text('Big Nose: ')")
    page.check("#auto input")
    page.wait_for_function("new URL(location).searchParams.get('auto') === '1'")
    before = controls(page)
    asked = "?face=4&attribute=Big_Nose&damage=noise&noise=0.12&n=2.5"
    assert page.url.split("/")[-1].startswith(asked)
    page.reload()
    page.wait_for_selector("#compared >> text=after auto")
    page.wait_for_selector("#n input[type=range]:disabled")
    assert controls(page) == before
    page.uncheck("#auto input")
    page.wait_for_function("new URL(location).searchParams.get('auto') === '0'")
    page.wait_for_selector("#compared >> text=n 2.5")


def test_a_bad_address_opens_the_page_and_a_photograph_is_not_kept(opened):
    page = opened(
        "?face=x&attribute=%3Cb%3E&damage=frost&severity=9&noise=nan&n=-1e99&beta=&auto=2&order=9&theme=1"
    )
    page.wait_for_selector("#said-n b >> text=/^0$/")
    page.wait_for_selector("#compared >> text=no noise")
    assert page.input_value("#attribute input") == "Smiling"
    assert "theme=1" in page.url
    page = opened("?face=photograph&noise=0.1")
    page.wait_for_selector(".note:has-text('The photograph was not kept')")
    page.wait_for_selector("text=noise 0.10")
    page = opened("?damage=fog&severity=x")
    page.wait_for_selector("#compared >> text=fog 3")
    page.wait_for_selector("#severity input[type=range]")


def test_a_button_saves_a_png(opened):
    page = opened("?noise=0.2&auto=1")
    page.wait_for_selector("#compared >> text=after auto")
    for _ in range(2):
        with page.expect_download() as download:
            page.click("#save")
    assert download.value.suggested_filename == "explorer-Smiling.png"
    with Image.open(download.value.path()) as saved:
        assert saved.format == "PNG" and saved.size == (1280, 960)


def test_the_label_of_the_upload_does_not_lie_over_its_icon(opened):
    page = opened()
    icon = page.locator("#file .icon-wrap svg").bounding_box()
    over = page.evaluate(
        """({x, y, width, height}) =>
          document.elementFromPoint(x + width / 2, y + height / 2).closest("label") !== null""",
        icon,
    )
    assert not over and not page.is_visible("#file label")


@pytest.mark.parametrize("kind", ["text", "truncated", "huge"])
def test_a_bad_file_is_one_line_and_the_page_lives_on(opened, server, photograph, kind):
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    content, reason = {
        "text": (b"no image", "its 8 bytes are none of JPEG"),
        "truncated": (encoded(photograph, "JPEG")[:900], "truncated"),
        "huge": (buffer.getvalue(), "it has 64,000,000 pixels, more than 50,000,000"),
    }[kind]
    page = opened()
    before = page.inner_html(TABLE)
    drop(page, "<i>face.jpg", content, "image/jpeg")
    page.wait_for_selector("[role=alert].problem")
    line = page.inner_text(".problem")
    assert "face.jpg: cannot be decoded as an image" in line and reason in line
    assert page.inner_html(TABLE) == before
    drop(page, "good.png", encoded(photograph))
    page.wait_for_selector(".note:has-text('good.png')")
    assert page.locator(".problem").count() == 0
    assert page.inner_html(TABLE) != before
    assert not server.complaints()
    # What was dropped is not kept.
    assert not [x for x in server.temporary.rglob("*") if "face" in x.name or "good" in x.name]


def test_a_file_that_is_too_large_is_one_line_and_the_page_lives_on(opened, server):
    page = opened()
    drop(page, "large.jpg", bytes(20 * 2**20 + 1), "image/jpeg")
    page.wait_for_selector("text=exceed the maximum allowed size")
    changes(page, lambda: page.click("#examples button >> nth=2"), PICTURES)
    # The browser reports the refusal itself; nothing else, and nobody else was asked.
    outside = [x for x in opened.complaints if x.startswith("http")]
    assert not outside
    opened.complaints.clear()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_phone_scrolls_one_way_only(opened, scheme):
    page = opened(viewport=PHONE, color_scheme=scheme)
    for auto in (False, True):
        page.set_checked("#auto input", auto)
        page.wait_for_selector("#curve .betas", state="attached" if auto else "detached")
        edges = page.locator("#curve > *, .betas, .scroll, .compared, .tiles, svg").evaluate_all(
            "(parts) => parts.map((part) => part.getBoundingClientRect().right)"
        )
        assert max(edges) <= PHONE["width"]
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_on_a_phone_the_table_does_not_scroll_sideways(opened):
    page = opened("?damage=jpeg_compression&severity=5&auto=1", viewport=PHONE)
    page.wait_for_selector("#compared >> text=JPEG compression 5")
    page.wait_for_selector("#compared >> text=after auto")
    width = page.locator(TABLE).evaluate("(part) => [part.scrollWidth, part.clientWidth]")
    assert width[0] <= width[1]


def test_on_a_phone_the_pictures_stay_in_sight(opened):
    page = opened("?noise=0.2", viewport=PHONE)
    page.wait_for_selector("text=noise 0.20")
    for part in ("#beta", "#table"):
        page.locator(part).scroll_into_view_if_needed()
        page.evaluate("window.scrollBy(0, 300)")
        box = page.locator(PICTURES).bounding_box()
        assert 0 <= box["y"] < 20 and box["height"] < PHONE["height"] / 3
        middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 40}
        assert page.evaluate(
            "({x, y}) => document.elementFromPoint(x, y).closest('#compared') !== null", middle
        )
    page = opened()
    page.locator("#table").scroll_into_view_if_needed()
    page.evaluate("window.scrollBy(0, 900)")
    assert page.locator(PICTURES).bounding_box()["y"] < 0


def asked(address, host=None):
    """Status, headers and body of the page."""
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_the_server_keeps_to_itself(server):
    status, headers, body = asked(server.address)
    assert status == 200 and server.address.startswith("http://127.0.0.1:")
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert asked(server.address, "evil.example")[0] == 400
    config = json.loads(re.search(r"window\.gradio_config = (\{.*?\});</script>", body)[1])
    assert config["analytics_enabled"] is False
    assert all(x["api_visibility"] == "private" for x in config["dependencies"])
    assert "fonts.g" not in json.dumps(config.get("stylesheets", []))
    for path in ("docs", "openapi.json", "monitoring"):
        assert asked(f"{server.address}/{path}")[0] in (403, 404)


def test_without_a_calibration_auto_is_off_and_sigterm_ends_it(finished, tmp_path):
    server = Server(finished, tmp_path / "tmp")
    _, _, body = asked(server.address)
    assert "auto needs a calibration" in body and "python -m" not in body
    config = json.loads(re.search(r"window\.gradio_config = (\{.*?\});</script>", body)[1])
    (auto,) = [x for x in config["components"] if x["props"].get("elem_id") == "auto"]
    assert auto["props"]["interactive"] is False
    assert any(server.temporary.iterdir())
    assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert not server.complaints() and not list(server.temporary.iterdir())


def test_a_button_calibrates(browser, finished, calibrated, tmp_path):
    workdir = tmp_path / "W"
    shutil.copytree(finished, workdir)
    server = Server(workdir, tmp_path / "tmp")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{server.address}/?noise=0.2")
    page.wait_for_selector("text=noise 0.20")
    assert page.is_disabled("#auto input")
    # The folder cannot be written: one line, and the button is there to try again.
    blocked = workdir / "calibration.npz"
    blocked.mkdir()
    page.click("#calibrate")
    page.wait_for_selector("#calibration progress")
    page.click("#calibrate", force=True)  # Does nothing while one is running.
    page.wait_for_selector("#calibration .problem")
    line = page.inner_text("#calibration .problem")
    assert line.startswith("Not calibrated: ") and "calibration.npz: cannot be written" in line
    blocked.rmdir()
    page.wait_for_selector("#calibrate:enabled")
    page.click("#calibrate")
    page.wait_for_selector("#auto input:enabled")
    page.wait_for_selector("#calibrate", state="detached")
    assert "tick auto" in page.inner_text("#calibration")
    changes(page, lambda: page.check("#auto input"), TABLE, PICTURES)
    made, expected = (np.load(x / "calibration.npz") for x in (workdir, calibrated))
    assert all(np.array_equal(made[name], expected[name]) for name in expected)
    page.reload()
    page.wait_for_selector("#compared >> text=after auto")
    page.wait_for_selector("#calibrate", state="detached")
    page.close()
    assert server.end(signal.SIGINT) == 0 and not server.complaints()


def test_the_watch_sees_a_connection_to_elsewhere():
    connect = "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect"
    code = f"{WATCH}\n{connect}(('192.0.2.1', 9))\n{connect}(('127.0.0.1', 9))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines() == ["OUTSIDE socket.connect 192.0.2.1"]
