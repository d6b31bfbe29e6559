"""The site: Sphinx reads docs/, MyST the Markdown, furo makes the pages.

    python -m sphinx -W --keep-going -n -b html docs build/site

Nothing is loaded from elsewhere, formulas included. The pages of the Python reference are written before the
build, from the list of public names in `merged_diffusion/__init__.pyi`, and are not committed.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import public_names  # noqa: E402  beside this file

from merged_diffusion import __version__  # noqa: E402

LOGGER = logging.getLogger(__name__)

project = "merged-diffusion"
author = "The merged-diffusion authors"
copyright = author  # noqa: A001  Sphinx's name
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx-mathjax-offline",
    "docstrings",  # beside this file
    "unbroken",  # likewise
]
exclude_patterns = ["_extensions", "reports"]
root_doc = "index"
nitpicky = True
highlight_language = "text"
default_role = "py:obj"
smartquotes = False  # -- begins an option

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 60
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove"  # remarks of the machine that built the page

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the numpy sections say what a reader needs; a signature of ten unions does not
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_param = False  # "images, ids" is one entry
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_use_ivar = True

copybutton_selector = "div:not(.highlight-text):not(.highlight-none) > div.highlight pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "merged-diffusion"
html_theme_options = {
    "source_repository": "https://github.com/merged-diffusion/merged-diffusion/",
    "source_branch": "main",
    "source_directory": "docs/",
}

SOURCE = "https://github.com/merged-diffusion/merged-diffusion/blob/main"
LINK = re.compile(r"\[([^\[\]]*)\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def repository_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links that lead out of docs/ go to GitHub, those to a report to the page that lies beside the site.

    On GitHub the same links are relative ones. A link to nothing is a warning, and so an error of the build.
    """
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return

    def turned(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        to = (path.parent / target).resolve()
        if not to.exists():
            LOGGER.warning("link to nothing: %s", target, location=docname)
            return found[0]
        if to.is_relative_to(HERE / "reports"):
            up = "../" * docname.count("/")
            return f'<a href="{up}{to.relative_to(HERE).as_posix()}">{words}</a>'
        if not to.is_relative_to(HERE):
            return f"[{words}]({SOURCE}/{to.relative_to(HERE.parent).as_posix()}{anchor})"
        return found[0]

    source[0] = LINK.sub(turned, source[0])


def copy_reports(app: Sphinx, error: Exception | None) -> None:
    """The kept reports are pages of their own."""
    if error is None and app.builder.format == "html":
        shutil.copytree(HERE / "reports", Path(app.outdir) / "reports", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Write the Python reference before its pages are looked for."""
    app.connect("builder-inited", public_names.write)
    app.connect("source-read", repository_links)
    app.connect("build-finished", copy_reports)
