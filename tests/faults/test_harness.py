"""The harness of the corpus sees what it is to see: deeds, memory, time, death."""

import os
import pickle
from pathlib import Path

import pytest
from tests.faults.case import Case
from tests.faults.harness import MEMORY, SECONDS, attempt

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
