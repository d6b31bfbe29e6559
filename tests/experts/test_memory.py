"""Rows of a network call are halved until they fit, and nothing of a try is held when the next begins."""

import weakref

import pytest

from merged_diffusion.errors import ResourceError
from merged_diffusion.experts import memory
from merged_diffusion.experts.memory import Rows


class Held:
    """What a try has made when the memory runs out."""


def test_rows_are_halved_until_they_fit_and_stay_so():
    rows, tried = Rows(16, "cpu"), []
    for fits in (4, 16):
        while True:
            with rows.attempt() as number:
                tried.append(number)
                if number > fits:
                    raise MemoryError
                break
    assert tried == [16, 8, 4, 4]
    assert rows.number == 4


def test_nothing_of_a_try_is_held_when_memory_is_given_back(monkeypatch):
    held, alive = [], []
    monkeypatch.setattr(memory, "_free", lambda: alive.append([ref() is not None for ref in held]))

    def call(number):
        made = Held()
        held.append(weakref.ref(made))
        if number > 2:
            raise MemoryError(number)

    rows = Rows(8, "cpu")
    while True:
        with rows.attempt() as number:
            call(number)
            break
    assert alive == [[False], [False, False]]


def test_fewer_than_the_least_are_refused_and_other_errors_come_out():
    rows = Rows(8, "cpu", least=8)
    with pytest.raises(ResourceError, match="8 rows"), rows.attempt():
        raise MemoryError
    with pytest.raises(ValueError, match="own"), rows.attempt():
        raise ValueError("own")
    assert rows.number == 8
