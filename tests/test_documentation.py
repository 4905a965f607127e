"""Documentation: every public name is described, every link works, and the built site is complete
and self-contained (IAMT_SITE is its folder; without it the tests of the site are skipped)."""

import ast
import inspect
import os
import pkgutil
import re
import textwrap
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

import iamt_jax

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

IMAGE = np.zeros((40, 32, 3), np.uint8)
REFUSED = {
    "load": lambda c: iamt_jax.load("no-such-folder"),
    "Classifier.__call__": lambda c: c(IMAGE, n=-1),
    "Classifier.predict_proba": lambda c: c.predict_proba("no-such-file.png"),
    "Classifier.predict": lambda c: c.predict(IMAGE.transpose(2, 0, 1)),
    "Classifier.top": lambda c: c.top(IMAGE, 0),
    "Classifier.as_dict": lambda c: c.as_dict(None),
    "Classifier.logits": lambda c: c.logits(IMAGE, beta=2),
    "Classifier.sweep": lambda c: c.sweep(IMAGE[..., :2], [1], [0]),
    "Classifier.masks": lambda c: c.masks(IMAGE, ["Smilling"]),
    "Classifier.explain": lambda c: c.explain(IMAGE, ["Smiling"], top=0),
    "Classifier.transformation": lambda c: c.transformation,
}
"""Public function -> a call that must raise InputError, for a classifier without calibration."""


def members(cls):
    """A class's public methods and properties, those of its bases in this package too."""
    bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith("iamt_jax.")]
    found = {name: member for base in bases for name, member in vars(base).items()}
    for name, member in found.items():
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property):
            yield name, member.fget
        elif hasattr(member, "func"):  # A cached property.
            yield name, member.func
        elif inspect.isfunction(member):
            yield name, member


def tree(thing):
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


PUBLIC = {name: getattr(iamt_jax, name) for name in iamt_jax.__all__}
CLASSES = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing)}
METHODS = {f"{c}.{name}": m for c, cls in CLASSES.items() for name, m in members(cls)}
FUNCTIONS = METHODS | {name: thing for name, thing in PUBLIC.items() if name not in CLASSES}
DESCRIBED = {name: inspect.getdoc(thing) for name, thing in (PUBLIC | METHODS).items()}

MADE = {name: cls for name, cls in CLASSES.items() if "def __init__" in inspect.getsource(cls)}
"""Classes with an `__init__` of their own; the others have fields."""
CALLED = FUNCTIONS | {name: cls.__init__ for name, cls in MADE.items()}


def section(name, title):
    """The text of a section of a docstring, dedented."""
    found = re.search(rf"^{title}:\n((?:  .*\n|\n)+)", DESCRIBED[name] + "\n", re.MULTILINE)
    return textwrap.dedent(found[1]) if found else ""


def test_every_public_name_is_described():
    assert len(DESCRIBED) > 25
    assert not [name for name, text in DESCRIBED.items() if not text]


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - MADE.keys()))
def test_every_field_is_described(name):
    body = tree(CLASSES[name]).body
    for field, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and not field.target.id.startswith("_"):
            text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert text and after.value.value, f"{name}.{field.target.id}"


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_has_an_example(name):
    assert section(name, "Example").startswith(">>> import iamt_jax\n")


@pytest.mark.parametrize("name", sorted(CALLED))
def test_arguments_and_results_are_described(name):
    signature = inspect.signature(CALLED[name])
    parameters = [p for p in signature.parameters if p != "self"]
    assert re.findall(r"^(\w+):", section(name, "Args"), re.MULTILINE) == parameters
    if name in FUNCTIONS and parameters:
        assert section(name, "Returns")


SHAPED = re.compile(r"\b(?:Float|Int|UInt8|Key)\[(?:Array|np\.ndarray), '[^']*'\]")


@pytest.mark.parametrize("name", sorted(CALLED))
def test_arrays_are_annotated_with_their_shape(name):
    signature = inspect.signature(CALLED[name])
    written = [p.annotation for p in signature.parameters.values() if p.name != "self"]
    if name in FUNCTIONS:
        written.append(signature.return_annotation)
    for annotation in written:
        assert annotation is not inspect.Signature.empty
        assert "rray" not in SHAPED.sub("", str(annotation)), annotation


def test_errors_are_described_where_they_are_raised():
    raising = {
        name
        for name, function in FUNCTIONS.items()
        for node in ast.walk(tree(function))
        if isinstance(node, ast.Raise) and "InputError" in ast.unparse(node)
    }
    described = {name for name in FUNCTIONS if "InputError:" in section(name, "Raises")}
    assert raising <= described == set(REFUSED)


@pytest.fixture(scope="module")
def classifier(finished):
    return iamt_jax.load(finished)


@pytest.mark.parametrize("name", REFUSED)
def test_errors_that_are_described_are_raised(name, classifier):
    with pytest.raises(iamt_jax.InputError):
        REFUSED[name](classifier)


FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2`* *$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")


def prose(page):
    return FENCE.sub("", page.read_text())


def anchors(page):
    """Anchors of a page's headings, in GitHub's form."""
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*?) *$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        repeats = sum(1 for known in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", known))
        found.add(f"{slug}-{repeats}" if repeats else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    for link in ("".join(pair) for pair in LINK.findall(CODE.sub("", prose(page)))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_links_and_anchors_are_found():
    assert sum(len(LINK.findall(prose(page))) for page in PAGES) > 20


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_map_of_the_packages_is_complete():
    tree = "\n".join(re.findall(r"^ {4}.*", ARCHITECTURE.partition("Outside")[0], re.MULTILINE))
    files = {path.name for path in Path(iamt_jax.__file__).parent.rglob("*.py")}
    assert set(re.findall(r"\w+\.py\b", tree)) | {"__init__.py"} == files


def test_equations_lead_to_functions_and_tests_that_exist():
    table = ARCHITECTURE.partition("## Equation, function, test")[2].partition("\n## ")[0]
    rows = [row.split("|")[2:4] for row in table.splitlines() if "`" in row]
    for functions, tests in rows:
        for name in re.findall(r"`([\w.]+)`", functions):
            pkgutil.resolve_name(f"iamt_jax.{name}")
        for name in re.findall(r"`([\w.]+)`", tests):
            assert (ROOT / "tests" / name).exists(), name
    assert len(rows) > 10


class Page(HTMLParser):
    """A page of the site: the resources it loads, its links, and its anchors."""

    LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}

    def __init__(self, path):
        super().__init__()
        self.loads, self.leads, self.places, self.text = [], [], set(), path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
        loaded = attributes.get(self.LOADS.get(tag))
        if loaded and not loaded.startswith("data:"):
            self.loads.append(loaded)
        if tag == "a" and "href" in attributes:
            self.leads.append(attributes["href"])


@pytest.fixture(scope="module")
def site():
    """Every page of the built site."""
    if "IAMT_SITE" not in os.environ:
        pytest.skip("IAMT_SITE does not name a built site")
    folder = Path(os.environ["IAMT_SITE"]).resolve()
    pages = {path: Page(path) for path in folder.rglob("*.html")}
    assert folder / "index.html" in pages
    return pages


def test_the_site_has_a_page_for_every_document(site):
    folder = Path(os.environ["IAMT_SITE"]).resolve()
    for page in (ROOT / "docs").rglob("*.md"):
        relative = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert folder / relative in site
        assert relative.name == "index.html" or any(
            lead.endswith(relative.name) for lead in site[folder / "index.html"].leads
        )


def test_the_site_loads_nothing_from_elsewhere(site):
    assert not {url for page in site.values() for url in page.loads if "//" in url}
    for style in Path(os.environ["IAMT_SITE"]).rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(?:https?:)?//", style.read_text()), style


def test_the_site_leads_to_what_exists(site):
    for path, page in site.items():
        for url in [*page.loads, *page.leads]:
            target, _, place = unquote(url).partition("#")
            target = (path.parent / target.partition("?")[0]).resolve() if target else path
            if re.match(r"\w+:|//", url) or target.name in ("genindex.html", "search.html"):
                continue
            assert target.exists(), f"{path.name}: {url}"
            if place and target in site:
                assert place in site[target].places, f"{path.name}: {url}"


def test_the_site_has_every_public_name(site):
    page = next(page for path, page in site.items() if path.name == "api.html")
    assert {f"iamt_jax.{name}" for name in DESCRIBED} <= page.places
    assert "jaxlib" not in page.text and "&lt;class" not in page.text
    written = unescape(re.sub(r"<[^>]*>", "", page.text))
    assert "Float[Array, 'batch attribute']" in written
