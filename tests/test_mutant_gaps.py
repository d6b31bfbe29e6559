"""What a planted fault of tests/mutants would otherwise pass by."""

import numpy as np
import pytest
import torch

from merged_diffusion import _core
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Probes
from merged_diffusion.ode.probes import make_directions

SEED, D = 3, 12
IDS = np.array([5, 8, 2], dtype=np.uint64)


def directions(kind, ids):
    place = Place(torch.device("cpu"), torch.float64, len(ids))
    made = make_directions(Probes(kind=kind), Items(ids, seed=SEED), place, (1, 1, D))
    return next(made.directions(np.arange(len(ids), dtype=np.uint64), np.zeros_like(ids))).numpy().copy()


@pytest.mark.parametrize("kind", ["fixed", "gaussian"])
def test_images_of_one_solve_have_probes_of_their_own(kind):
    found = directions(kind, IDS)
    assert len(np.unique(found, axis=0)) == len(IDS)
    for row, image in enumerate(IDS):
        np.testing.assert_array_equal(found[row], directions(kind, np.array([image]))[0])


def test_probe_of_an_image_is_the_stream_of_its_seed_and_id():
    packed = np.empty((len(IDS), 2), dtype=np.uint8)
    _core.fill_signs(packed, SEED, IDS, np.zeros_like(IDS), np.zeros_like(IDS))
    signs = 2.0 * np.unpackbits(packed, axis=1, count=D, bitorder="little") - 1
    np.testing.assert_array_equal(directions("fixed", IDS), signs)
    normal = np.empty((len(IDS), D))
    _core.fill_normal(normal, SEED, "probe", IDS, np.zeros_like(IDS))
    np.testing.assert_array_equal(directions("gaussian", IDS), normal)
