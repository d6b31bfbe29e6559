"""Neighbours against all distances, summed one by one; copies and equal images at distance 0."""

import numpy as np
import pytest

from merged_diffusion.quality import neighbours
from merged_diffusion.quality.neighbours import nearest, within


def all_squares(queries, points):
    return ((queries[:, None].astype(float) - points[None].astype(float)) ** 2).sum(axis=2)


def cloud(n, dim, seed, *, far=0.0):
    """Points with equals among them, on a grid that makes ties, ``far`` from 0."""
    random = np.random.default_rng(seed)
    rows = random.integers(-2, 3, size=(n, dim)) / 2 + far + 1e-3 * random.integers(0, 2, size=(n, 1))
    rows[n // 2 : n // 2 + 5] = rows[:5]
    return rows.astype(np.float32)


@pytest.fixture(params=[(512, 4096), (7, 5)], autouse=True)
def blocks(request, monkeypatch):
    monkeypatch.setattr(neighbours, "QUERIES", request.param[0])
    monkeypatch.setattr(neighbours, "POINTS", request.param[1])
    monkeypatch.setattr(neighbours, "AT_ONCE", 40 if request.param[1] == 5 else neighbours.AT_ONCE)


@pytest.mark.parametrize("far", [0.0, 1e4])
@pytest.mark.parametrize("dim", [1, 3, 40])
def test_nearest_points_are_those_of_all_distances(dim, far):
    # Far from 0 a distance by the product loses all its digits (1e8 times 2^-53 of 1e-6) unless centred.
    queries, points = cloud(40, dim, 1, far=far), cloud(60, dim, 2, far=far)
    squares = all_squares(queries, points)
    order = np.argsort(squares, axis=1, kind="stable")[:, :4]
    found = nearest(queries, points, 4)
    assert (found.points == order).all()
    # numpy sums D values in one order: the same values in the same places give the same bits.
    assert (found.squares == np.take_along_axis(squares, order, axis=1)).all()


def test_an_image_is_no_neighbour_of_itself_and_its_equal_is():
    rows = cloud(50, 3, 3)
    squares = all_squares(rows, rows)
    np.fill_diagonal(squares, np.inf)
    order = np.argsort(squares, axis=1, kind="stable")[:, :2]
    assert (nearest(rows, rows, 2, own=np.arange(50)).points == order).all()
    assert (nearest(rows, rows, 1, own=np.arange(50)).squares[:5] == 0).all()


def test_fewer_points_than_neighbours_leave_places_empty():
    rows = np.array([[0.0], [2.0]])
    found = nearest(rows, rows, 3, own=np.arange(2))
    assert found.points.tolist() == [[1, -1, -1], [0, -1, -1]]
    assert found.squares.tolist() == [[4, np.inf, np.inf]] * 2
    assert nearest(rows[:1], rows[:1], 3).squares.tolist() == [[0, np.inf, np.inf]]


def test_equal_points_are_all_at_distance_0():
    rows = np.full((30, 4), 0.1, dtype=np.float32)
    assert (nearest(rows, rows, 3, own=np.arange(30)).squares == 0).all()
    assert sum(len(pairs.queries) for pairs in within(rows, rows, np.zeros(30))) == 900


@pytest.mark.parametrize("dim", [1, 3, 40])
def test_pairs_within_a_radius_include_its_rim(dim):
    queries, points = cloud(40, dim, 4), cloud(60, dim, 5)
    squares = all_squares(queries, points)
    radii = squares[np.arange(60) % 40, np.arange(60)]  # each attained by a query, exactly
    found = np.zeros((40, 60), dtype=bool)
    for pairs in within(queries, points, radii):
        found[pairs.queries, pairs.points] = True
        assert (pairs.squares == squares[pairs.queries, pairs.points]).all()
    assert (found == (squares <= radii)).all()


def test_distances_that_differ_in_the_last_bits_are_told_apart():
    # |x|^2 = 3e12: the product knows a distance to 1e-3 at best, and these differ by 1e-9.
    base = np.full(3, 1e6)
    points = np.stack([base + np.array([1 + 1e-9 * k, 0, 0]) for k in (3, 1, 2, 0)] + [base - 4e6])
    exact = all_squares(base[None], points)[0]
    assert len(set(exact)) == len(exact)
    assert nearest(base[None], points, 4).points[0].tolist() == np.argsort(exact)[:4].tolist()


def test_no_more_than_a_block_of_pairs_is_held(monkeypatch):
    import tracemalloc

    monkeypatch.setattr(neighbours, "QUERIES", 64)
    monkeypatch.setattr(neighbours, "POINTS", 256)
    rows = np.random.default_rng(0).standard_normal((4000, 8)).astype(np.float32)
    sizes = []
    made = neighbours._below

    def noted(least, bound):
        sizes.append(least.numel())
        return made(least, bound)

    monkeypatch.setattr(neighbours, "_below", noted)
    tracemalloc.start()
    nearest(rows, rows, 3, own=np.arange(4000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(sizes) == 64 * 256
    assert peak < 4e6  # of numpy; all pairs would be 128 MB
