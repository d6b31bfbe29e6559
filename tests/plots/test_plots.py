"""Figures hold the data they were given, and no label covers another."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from merged_diffusion import plots
from merged_diffusion.plots.look import spread

CURVE = plots.Curve("", [0.1, 0.2, 0.3], [1.8, 1.7, 1.75], [0.02, 0.01, 0.03])
LEVELS = [
    plots.Level("quality", "quality expert", 1.9, 0.05),
    plots.Level("likelihood", "likelihood expert", 1.76),
]


def boxes(figure):
    """Extents of the words in a figure, in pixels; empty ones left out."""
    figure.draw_without_rendering()
    (axes,) = figure.axes
    words = [*axes.texts, axes.xaxis.label, axes.yaxis.label]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        words += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [word.get_window_extent() for word in words if word.get_text() and word.get_visible()]


def assert_legible(figure):
    found = boxes(figure)
    whole = figure.bbox
    for box in found:
        assert whole.x0 - 1 <= box.x0
        assert box.x1 <= whole.x1 + 1
        assert whole.y0 - 1 <= box.y0
        assert box.y1 <= whole.y1 + 1
    for a, b in itertools.combinations(found, 2):
        assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1), (a, b)


def test_over_eta_draws_values_errors_and_levels():
    figure = plots.over_eta([CURVE], LEVELS, unit="bits/dim")
    (axes,) = figure.axes
    (container,) = axes.containers
    line, _, (bars,) = container
    assert line.get_xydata().tolist() == [[0.1, 1.8], [0.2, 1.7], [0.3, 1.75]]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[1.78, 1.82], [1.69, 1.71], [1.72, 1.78]])
    levels = [entry.get_ydata()[0] for entry in axes.lines if entry.get_linestyle() == "--"]
    assert levels == [1.9, 1.76]
    assert_legible(figure)


def test_long_names_of_axes_are_not_cut():
    unit = "difference to eta 0.6000 (frechet-random-convolution)"
    assert_legible(plots.over_eta([CURVE], LEVELS, unit=unit))
    levels = [plots.Level(role, f"{role} expert, ancestral", 1.8) for role in ("quality", "likelihood")]
    assert_legible(plots.over_eta([CURVE], levels, unit="frechet-random-convolution"))
    points = [plots.Point("0.3", "merged", 1.7, 3.1), plots.Point("0.4", "merged", 1.8, 3.2)]
    assert_legible(plots.trade_off(points, distance="frechet-random-convolution of other features"))


def test_labels_of_equal_values_move_apart():
    curves = [plots.Curve(name, [0.1, 0.5], [2.0, 2.0], [None, None]) for name in ("ode", "ancestral")]
    levels = [plots.Level(role, f"{role} expert", 2.0) for role in ("quality", "likelihood")]
    assert_legible(plots.over_eta(curves, levels, unit="distance"))


def test_spread_keeps_order_and_gap():
    placed = spread([0.5, 0.5, 0.1, 0.52], 0.1)
    assert placed == pytest.approx([0.4066667, 0.5066667, 0.1, 0.6066667])
    assert spread([0.1, 0.9], 0.1) == [0.1, 0.9]


def test_trade_off_labels_every_point_it_can():
    points = [
        plots.Point(f"{eta:.1f}", "merged", 1.7 + (eta - 0.3) ** 2, 7 + 4 * (eta - 0.5) ** 2, 0.01, 0.05)
        for eta in np.arange(1, 9) / 10
    ]
    experts = [
        plots.Point("quality expert", "quality", 1.9, 8.0),
        plots.Point("likelihood expert", "likelihood", 1.95, 8.4),
    ]
    figure = plots.trade_off([*points, *experts], distance="frechet")
    (axes,) = figure.axes
    assert {t.get_text() for t in axes.texts} >= {"0.1", "0.8", "quality expert", "likelihood expert"}
    (path,) = [line for line in axes.lines if line.get_label() == "merged"]
    assert path.get_xydata().tolist() == [[p.bits_per_dim, p.distance] for p in points]
    assert_legible(figure)


def test_profiles_show_losses_and_crossing():
    gammas = np.linspace(-8, 8, 17)
    loss = np.exp(-((gammas + 4) ** 2) / 30)
    figure = plots.profiles(
        gammas, {"likelihood": (loss, 0.1 * loss), "quality": (0.9 * loss, None)}, crossing=-2.0
    )
    (axes,) = figure.axes
    by_name = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(by_name["likelihood"].get_ydata(), loss)
    np.testing.assert_array_equal(by_name["quality"].get_xdata(), gammas)
    assert any("γ = -2.00" in t.get_text() for t in axes.texts)
    assert_legible(figure)


def test_histogram_counts_every_image():
    values = {"merged": np.array([1.0, 1.1, 1.5, 2.0]), "quality": np.array([1.2, 1.4, 2.1])}
    figure = plots.histogram(values)
    (axes,) = figure.axes
    steps = {p.get_label(): p.get_data().values.sum() for p in axes.patches if p.get_label() in values}
    assert steps == {"merged": 4, "quality": 3}
    assert_legible(figure)


def test_legs_show_charge_within_range():
    parts = [
        SimpleNamespace(role="likelihood", start=-8.0, end=-3.0),
        SimpleNamespace(role="quality", start=-3.0, end=8.0),
    ]
    figure = plots.legs(parts, {"likelihood": (-8.0, 5.0), "quality": (-7.0, 8.0)}, eta=0.3)
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in figure.axes[0].patches]
    assert spans == [(-7, 8), (-8, 5), (-8, -3), (-3, 8)]
    assert_legible(figure)


def test_grids_and_strips_are_not_smoothed():
    images = np.random.RandomState(0).randint(0, 256, (6, 3, 8, 8)).astype(np.uint8)
    for figure in (plots.grid(images), plots.strips([("η 0.1", images[:3]), ("η 0.2", images[3:])])):
        (picture,) = figure.axes[0].images
        assert picture.get_interpolation() == "nearest"
    assert_legible(figure)
    np.testing.assert_array_equal(picture.get_array()[:8, :8, :3], images[0].transpose(1, 2, 0))


def test_names_of_strips_have_room_in_a_vector_picture():
    # Its words are up to a tenth wider than the 51 pixels that were measured at 72 dots an inch.
    rows = [(f"eta 0.{k}000", np.zeros((14, 3, 8, 8), dtype=np.uint8)) for k in range(12)]
    figure = plots.strips(rows)
    assert min(box.x0 for box in boxes(figure)) >= 0.09 * figure.dpi


def test_svg_keeps_text_and_takes_the_page_s_ink():
    text = plots.svg(plots.over_eta([CURVE], LEVELS, unit="bits/dim"), "f0")
    assert text.startswith("<svg ")
    assert ">quality expert</text>" in text
    assert "currentColor" in text
    assert "http" not in text
    assert plots.svg(plots.over_eta([CURVE], LEVELS, unit="bits/dim"), "f0") == text
