"""What stays on one line where a page is narrow: a value with its error, and the name of an option."""

from docutils import nodes
from sphinx.application import Sphinx

LONGEST = 24  # characters of an option that fit into a line of a telephone, list and margins included


def whole_values(app: Sphinx, page: nodes.document) -> None:
    """A value and its error are one word: a column is as wide as they are, and the table is scrolled."""
    for cell in page.findall(nodes.entry):
        for text in [text for text in cell.findall(nodes.Text) if " ± " in text]:
            whole = text.astext().replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
            text.parent.replace(text, nodes.Text(whole))


def whole_options(app: Sphinx, page: nodes.document) -> None:
    """A line does not end within ``--repeats 8``, where a browser sees two hyphens and a space."""
    for code in page.findall(nodes.literal):
        text = code.astext()
        if text.startswith("-") and len(text) <= LONGEST:
            code["classes"].append("option")


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("doctree-read", whole_values)
    app.connect("doctree-read", whole_options)
    return {"parallel_read_safe": True}
