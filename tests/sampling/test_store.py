"""What a command leaves of its folder of parts."""

import numpy as np
import pytest

from merged_diffusion.sampling.store import Store

IDENTITY = {"settings": {}, "image_shape": [1, 2, 2]}


def begun(out, worker):
    return Store(out, np.arange(4), IDENTITY, (worker, 2))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "images.npz"


def test_a_folder_in_which_nothing_was_drawn_goes_with_who_made_it(out):
    with begun(out, 0):
        assert out.with_name("images.npz.part").is_dir()
    assert not list(out.parent.iterdir())


def test_a_folder_that_was_there_stays_with_its_settings(out):
    part = out.with_name("images.npz.part")
    part.mkdir()  # as another worker has, who has not locked its share yet
    with begun(out, 1):
        pass
    assert (part / "settings.json").is_file()


def test_a_folder_in_which_another_draws_stays(out):
    with begun(out, 1) as other:
        with begun(out, 0):
            pass
        assert (other.out.with_name("images.npz.part") / "settings.json").is_file()


def test_a_folder_stays_for_who_came_after_its_maker(out):
    maker = begun(out, 0)
    with begun(out, 1):
        maker.__exit__(None, None, None)
        assert (out.with_name("images.npz.part") / "settings.json").is_file()
