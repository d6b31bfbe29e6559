"""The harness of the corpus sees what it is to see: deeds, memory, time, death."""

import os
import pickle
from pathlib import Path

import pytest
from tests.faults.case import Case
from tests.faults.harness import FILES, MEMORY, SECONDS, attempt, attempts

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
CASE = Case("a", Path("a"), "data", 0)


@pytest.mark.parametrize(
    ("deed", "event"),
    [
        (lambda path: path.write_bytes(b""), "open"),
        (lambda path: path.mkdir(), "os.mkdir"),
        (lambda path: os.system(f"touch {path}"), "os.system"),  # noqa: S605
        (lambda path: pickle.loads(b"\x80\x04cos\ngetcwd\n."), "pickle.find_class"),
    ],
    ids=["writes", "makes a folder", "runs a command", "unpickles"],
)
def test_deeds_are_seen(deed, event, tmp_path):
    code, _, _, message = attempt(lambda _: deed(tmp_path / "canary"), CASE)
    assert code == -2
    assert event in message


def test_reading_is_no_deed(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    code, seconds, used, message = attempt(lambda _: (tmp_path / "a").read_bytes(), CASE)
    assert (code, message) == (0, "")
    assert seconds < SECONDS
    assert used < MEMORY


def test_memory_is_seen():
    assert attempt(lambda _: b"x" * (MEMORY + (16 << 20)), CASE)[2] > MEMORY


def test_death_is_seen():
    assert attempt(lambda _: os._exit(3), CASE)[0] == -1


def test_one_file_hides_nothing_of_the_next(tmp_path):
    """Deeds, death and memory are those of the file that has them, in a child of many."""

    def load(case):
        match int(case.name) % 7:
            case 1:
                (tmp_path / case.name).write_bytes(b"")
            case 3:
                os._exit(0)
            case 5:
                bytearray(MEMORY + (16 << 20))[:: 1 << 12] = b"x" * ((MEMORY + (16 << 20)) >> 12)

    cases = [Case(str(number), Path("a"), "data", 0) for number in range(FILES + 9)]
    found = list(attempts(load, cases))
    assert [code for code, *_ in found] == [{1: -2, 3: -1}.get(n % 7, 0) for n in range(FILES + 9)]
    assert [n for n, (_, _, used, _) in enumerate(found) if used > MEMORY] == [
        n for n in range(FILES + 9) if n % 7 == 5
    ]
