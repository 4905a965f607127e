"""Sphinx configuration of the site: docs/*.md and the docstrings of the public names.

pip install -e '.[docs]' && python -m sphinx -W --keep-going -n -b html docs build/site
"""

import dataclasses
import inspect
import posixpath
import re
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.ext import napoleon
from sphinx.util import inspect as sphinx_inspect

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

project = PROJECT["name"]
release = PROJECT["version"]
language = "en-GB"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
default_role = "py:obj"  # `IAMT` in a docstring is a link if the name is found, and code otherwise.
highlight_language = "none"  # Fences without a language hold commands, trees and formulas.
myst_heading_anchors = 4
maximum_signature_line_length = 80  # Longer signatures get one line for each parameter.
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "iamt_jax"
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}

JAXTYPING = "https://docs.kidger.site/jaxtyping/api/array/"
ELSEWHERE = {
    "Array": "https://docs.jax.dev/en/latest/_autosummary/jax.Array.html",
    "Float": JAXTYPING,
    "Image": "https://pillow.readthedocs.io/en/stable/reference/Image.html",
    "Int": JAXTYPING,
    "Key": JAXTYPING,
    "Path": "https://docs.python.org/3/library/pathlib.html",
    "Rngs": "https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/rnglib.html",
    "UInt8": JAXTYPING,
    "ndarray": "https://numpy.org/doc/stable/reference/generated/numpy.ndarray.html",
}
"""Links for names of other libraries in our signatures; intersphinx would need the network."""

PLAIN = {"Callable", "Config", "Literal", "Predictor", "Sequence", "Transformation", "bool"}
PLAIN |= {"dict", "float", "int", "slice", "str", "tuple"}
"""Names in signatures that are not linked."""

LINK = re.compile(r"(?<=\]\()([^)\s:#][^)\s:]*)(?=\))")
"""The target of a relative link or image."""

ONE_AXIS = re.compile(r"' (\w+)'")
"""A shape with one axis; its leading space keeps linters from taking it for a name."""


def links_from(folder, text):
    """Rewrites the relative links of a file in `folder` for the site: links into docs/ become links
    to pages, links to other files of the repository become links to its web page."""

    def resolved(match):
        target = posixpath.normpath(posixpath.join(folder, match[0]))
        if not (HERE.parent / target.partition("#")[0]).exists():  # Code, or a broken link.
            return match[0]
        if target.startswith("docs/"):
            return "/" + target.removeprefix("docs/")
        return f"{REPOSITORY}/blob/main/{target}"

    return LINK.sub(resolved, text)


def page_links(app, docname, source):
    """Rewrites the links of a page as Sphinx reads it."""
    source[0] = links_from(posixpath.join("docs", posixpath.dirname(docname)), source[0])


def readme_links(app, path, docname, content):
    """Rewrites the links of the README, which a page includes."""
    content[0] = links_from(posixpath.join("docs", path.parent.as_posix()), content[0])


def local_pictures(app, doctree):
    """Replaces remote images (badges) by their alternative text: pages load only local files."""
    for image in list(doctree.findall(nodes.image)):
        if "://" in image["uri"]:
            image.replace_self(nodes.Text(image.get("alt", "")))


def google_sections(app, what, name, obj, options, lines):
    """Converts the sections Args, Returns and Raises. Used as an extension, napoleon would read the
    text before a colon in a field's docstring as its type."""
    config = napoleon.Config(napoleon_use_rtype=False)
    lines[:] = napoleon.GoogleDocstring(lines, config).lines()


def written_signature(app, what, name, obj, options, signature, returns):
    """The signature as written in the source, with shapes; evaluated, these would be classes.

    Classes whose fields are listed below get none.
    """
    if what not in ("class", "function", "method"):
        return None
    if what == "class":
        fields = dataclasses.is_dataclass(obj) or hasattr(obj, "_fields")
        if fields or getattr(obj.__init__, "__module__", None) != obj.__module__:
            return "", None
    function = obj.__init__ if what == "class" else obj
    written = inspect.signature(function)
    parameters = list(written.parameters.values())
    if what != "function":
        parameters = parameters[1:]
    written = written.replace(parameters=parameters)
    if what == "class":
        written = written.replace(return_annotation=inspect.Signature.empty)
    text = ONE_AXIS.sub(r"'\1'", sphinx_inspect.stringify_signature(written))
    arguments, arrow, result = text.partition(" -> ")
    return arguments, result if arrow else None


def known_elsewhere(app, env, node, contnode):
    """Resolves types by their last name: our own, which the page lists under their full name, and
    those of other libraries."""
    if node["refdomain"] != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    if name in ELSEWHERE and node["reftype"] != "obj":
        if "jaxlib" in contnode.astext():  # Hides the private module of jax.Array.
            contnode = nodes.Text(name)
        return nodes.reference("", "", contnode, internal=False, refuri=ELSEWHERE[name])
    domain = env.get_domain("py")
    if node["reftype"] == "obj":
        ours = [f"iamt_jax.{node['reftarget']}"]
    else:
        ours = [full for full in domain.objects if full.endswith(f".{name}")]
    if len(ours) == 1 and ours[0] in domain.objects:
        where = app.builder, "obj", ours[0], node, contnode
        return domain.resolve_xref(env, node["refdoc"], *where)
    # Backticks in a docstring are code if they hold no known name.
    return contnode if node["reftype"] == "obj" or name in PLAIN else None


def mathml(translator, node):
    """Renders formulas as MathML, which browsers display without scripts, fonts or the network."""
    formula = tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block))
    tag = "div" if isinstance(node, nodes.math_block) else "span"
    translator.body.append(f'<{tag} class="math">{formula}</{tag}>')
    raise nodes.SkipNode


def setup(app):
    """Registers the handlers; called by Sphinx."""
    app.connect("source-read", page_links)
    app.connect("include-read", readme_links)
    app.connect("doctree-read", local_pictures)
    app.connect("autodoc-process-docstring", google_sections)
    app.connect("autodoc-process-signature", written_signature)
    app.connect("missing-reference", known_elsewhere)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
