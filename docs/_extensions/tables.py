"""Tables whose numbers stay whole where a page is narrow."""

from docutils import nodes
from sphinx.application import Sphinx


def whole_values(app: Sphinx, page: nodes.document) -> None:
    """A value and its error are one word: a column is as wide as they are, and the table is scrolled."""
    for cell in page.findall(nodes.entry):
        for text in [text for text in cell.findall(nodes.Text) if " ± " in text]:
            whole = text.astext().replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
            text.parent.replace(text, nodes.Text(whole))


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("doctree-read", whole_values)
    return {"parallel_read_safe": True}
