"""Augmentation: what the labels say is what was done, exactly where it can be."""

import math

import pytest
import torch

from merged_diffusion.training.augmentation import N_LABELS, Augmentations, augmented, draw_augmentations
from merged_diffusion.training.warping import SYMLET, warped

NAMES = ("flip_across", "flip_down", "scale", "angle", "axis", "stretch", "shift_right", "shift_down")


def done(n=1, **numbers):
    given = {name: torch.full((n,), float(numbers.get(name, 0.0))).double() for name in NAMES}
    return Augmentations(**given)


def images(n=1, size=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64)


def ramp(size=32):
    """2 x - 3 y + 1 of the position from the middle, and that position."""
    at = torch.arange(size).double() - (size - 1) / 2
    down, across = torch.meshgrid(at, at, indexing="ij")
    return (2 * across - 3 * down + 1)[None, None], across, down


def test_nothing_done_is_the_very_image_and_nine_zeros():
    x = images(2)
    assert torch.equal(augmented(x, done(2)), x)
    assert torch.equal(done(2).labels(), torch.zeros(2, N_LABELS).double())


def test_an_axis_without_a_stretch_is_nothing():
    assert torch.equal(augmented(images(), done(axis=1.0)), images())
    assert torch.equal(done(axis=1.0).labels(), torch.zeros(1, N_LABELS).double())


@pytest.mark.parametrize(("flip", "axis"), [("flip_across", 3), ("flip_down", 2)])
def test_a_flip_is_exact_and_its_own_inverse(flip, axis):
    x, once = images(), done(**{flip: 1})
    assert torch.equal(augmented(x, once), x.flip(axis))
    assert torch.equal(augmented(augmented(x, once), once), x)
    assert once.labels().sum() == 1


def test_the_filter_is_that_of_an_orthonormal_wavelet_with_six_vanishing_moments():
    h = torch.tensor(SYMLET, dtype=torch.float64)
    for shift in range(6):  # the even shifts of h are orthonormal
        product = float((h[2 * shift :] * h[: 12 - 2 * shift]).sum())
        assert product == pytest.approx(float(shift == 0), abs=1e-15 * 12)
    signs = (-1.0) ** torch.arange(12)
    for power in range(6):  # moments of (-1)^k h[k], of size 11^power
        moment = float((signs * torch.arange(12).double() ** power * h).sum())
        assert moment == pytest.approx(0, abs=1e-14 * 11**power)


def test_a_map_that_does_nothing_returns_the_image():
    """Orthonormal even shifts: doubled and halved again it is the image, to rounding."""
    identity = torch.eye(2, 3).double()[None]
    torch.testing.assert_close(warped(images(), identity), images(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (-4, 1)])
def test_a_label_of_translation_moves_by_an_eighth_of_the_size(right, down):
    size = 32
    x = images(size=size)
    moved = augmented(x, done(shift_right=8 * right / size, shift_down=8 * down / size))
    inside = slice(8, -8)  # away from the mirrored edges
    expected = x.roll((down, right), (2, 3))[:, :, inside, inside]
    torch.testing.assert_close(moved[:, :, inside, inside], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "numbers",
    [
        {"scale": 1.0},
        {"scale": 2.0, "angle": 0.3},
        {"angle": math.pi / 2},
        {"angle": -2.0},
        {"stretch": 1.5, "axis": 0.4},
        {"scale": 1.0, "angle": 1.0, "stretch": 1.0, "axis": -2.0, "shift_right": 0.3, "shift_down": -0.2},
    ],
)
def test_labels_say_how_a_ramp_was_moved(numbers):
    """From the nine labels alone: scale, then turn, then stretch, then shift; ramps are mapped exactly."""
    x, across, down = ramp()
    size = x.shape[3]
    label = done(**numbers).labels()[0]
    a2, cos, sin = label[2], label[3] + 1, label[4]
    turn = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    a5 = float(torch.hypot(label[5], label[6]))
    axis = torch.stack([label[5], label[6]]) / max(a5, 1e-300)
    along, beside = torch.outer(axis, axis), torch.eye(2).double() - torch.outer(axis, axis)
    aniso = 2 ** (0.2 * a5) * along + 2 ** (-0.2 * a5) * beside if a5 else torch.eye(2).double()
    matrix = aniso @ turn * 2 ** (0.2 * a2)
    shifted = torch.stack([across - label[7] * size / 8, down - label[8] * size / 8])
    source = torch.einsum("ij,jhw->ihw", torch.linalg.inv(matrix), shifted)
    expected = 2 * source[0] - 3 * source[1] + 1
    # Where the filter's six pixels, mapped, come from the inside of the image.
    inside = source.abs().amax(dim=0) < size / 2 - 1 - 6 * float(
        torch.linalg.matrix_norm(matrix.inverse(), 2)
    )
    assert inside.sum() > 40
    found = augmented(x, done(**numbers))[0, 0]
    torch.testing.assert_close(found[inside], expected[inside], rtol=0, atol=1e-9)


def test_the_share_of_each_is_that_of_the_card():
    n, p = 40_000, 0.12
    drawn = draw_augmentations(n, p, torch.Generator().manual_seed(0))
    error = 5 * math.sqrt(p * (1 - p) / n)  # five standard errors of a share
    assert abs(float(drawn.flip_across.mean()) - 0.5) < 5 * 0.5 / math.sqrt(n)
    assert abs(float(drawn.flip_down.mean()) - p / 2) < error
    for name in ("scale", "angle", "stretch", "shift_right", "shift_down"):
        assert abs(float((getattr(drawn, name) != 0).double().mean()) - p) < error
    scale = drawn.scale[drawn.scale != 0]
    assert abs(float(scale.std()) - 1) < 5 / math.sqrt(2 * len(scale))
    # An axis with its stretch, of half of them, as published (aniso_rotate_prob = 0.5); both shifts together.
    stretched = drawn.axis[drawn.stretch != 0]
    assert not drawn.axis[drawn.stretch == 0].any()
    assert abs(float((stretched != 0).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(len(stretched))
    assert torch.equal(drawn.shift_right == 0, drawn.shift_down == 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_rounds_no_image(dtype):
    x, drawn = images(12).float(), draw_augmentations(12, 0.5, torch.Generator().manual_seed(1))
    whole = augmented(x, drawn)
    assert not torch.equal(whole, x)
    with torch.autocast("cpu", dtype):
        assert torch.equal(augmented(x, drawn), whole)


def test_an_image_is_augmented_the_same_beside_others():
    x, drawn = images(12), draw_augmentations(12, 0.5, torch.Generator().manual_seed(1))
    whole = augmented(x, drawn)
    for row in range(12):
        alone = augmented(x[row : row + 1], drawn.rows(torch.tensor([row])))
        torch.testing.assert_close(alone, whole[row : row + 1], rtol=0, atol=1e-12)
    # Those of which all is zero are untouched.
    same = (drawn.labels() == 0).all(dim=1)
    assert torch.equal(whole[same], x[same])
