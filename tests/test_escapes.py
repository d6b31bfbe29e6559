"""What others wrote is shown, not obeyed."""

import json
import os

import pytest

from merged_diffusion import escapes
from merged_diffusion.cli import output
from merged_diffusion.errors import DataError
from merged_diffusion.reports.tables import FORMATS, Number, Table, written

OBEYED = ["\x1b[31m", "\r", "\x00", "\x07", "\x7f", "\x9b2J", "\u202e", "\u2066", "\u2028", "\u2029",
          "\u200b", "\ufeff", "\U000e0041"]  # fmt: skip


@pytest.mark.parametrize("obeyed", OBEYED, ids=ascii)
def test_what_a_terminal_obeys_is_shown(obeyed: str) -> None:
    text = escapes.shown(f"a{obeyed}b")
    assert text[:2] == "a\\"
    assert text[-1] == "b"
    assert text.isprintable()
    assert json.loads(escapes.in_json(json.dumps(f"a{obeyed}b", ensure_ascii=False))) == f"a{obeyed}b"
    assert escapes.in_json(json.dumps(f"a{obeyed}b", ensure_ascii=False)).isprintable()


def test_words_of_any_language_stay() -> None:
    text = "\tÄpfel ± 3 日本語 русский עברית 😀 ‰ −1\nnext"
    assert escapes.shown(text) == text
    assert escapes.in_json(text) == text


def test_bytes_that_are_no_utf8_are_shown_as_bytes() -> None:
    assert escapes.shown(os.fsdecode(b"im\xe9ges.npz")) == "im\\xe9ges.npz"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("obeyed", OBEYED, ids=ascii)
def test_names_in_tables_are_shown(form: str, obeyed: str) -> None:
    table = Table(f"t{obeyed}", ["model", f"c{obeyed}"], [[f"n{obeyed}", Number(1.0)]], [f"note{obeyed}"])
    text = written(table, form)
    assert all(c == "\n" or c.isprintable() for c in text)


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1"])
def test_no_label_is_a_formula(label: str) -> None:
    row = written(Table("t", ["model", "x"], [[label, Number(-1.5)]]), "csv").splitlines()[1]
    assert row.lstrip('"').startswith("'")
    assert row.endswith(",-1.5")


def test_an_error_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\nerror: all is well\x1b[2K"
    output.refusal(DataError(f"{name} is broken", file=name), as_json=False)
    assert capsys.readouterr().err == "error: a\\nerror: all is well\\x1b[2K is broken\n"
