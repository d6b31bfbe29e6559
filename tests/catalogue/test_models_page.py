"""The page of models: its blocks of Python run one after the other and print what it shows."""

import pytest
from tests.test_pages import DOCS, blocks, terminal

from merged_diffusion.experts.checkpoints.read_as import FAMILIES

PAGE = DOCS / "models.md"
__all__ = ["terminal"]


@pytest.mark.filterwarnings("ignore")  # what a stand-in is warned of is not the page's concern
def test_the_five_kinds_run_and_give_one_number(terminal):
    printed = []
    for block in blocks(PAGE):
        if block.language in ("python", "text"):
            terminal.run(block)
        if block.language == "text":
            printed.append(float(terminal.printed.split()[0]))
    assert printed == pytest.approx([7.96] * 5, abs=0.0101)


def test_the_page_has_every_option_of_every_family():
    text = PAGE.read_text(encoding="utf-8")
    rows = [
        row.split(" | ") for row in text.split("| option | of | means |")[1].split("\n\n")[0].splitlines()
    ]
    for family, options in FAMILIES.items():
        for option in options:
            (of,) = [row[1] for row in rows if f"`{option}`" in row[0]]
            is_of_it = (f"`{family}`" in of) != of.startswith("all but")
            assert of == "all" or is_of_it, (family, option)
