"""What a command leaves of its folder of parts."""

import os
import signal

import numpy as np
import pytest

from merged_diffusion.errors import IncompleteError, RunCorruptError, RunError, StorageError
from merged_diffusion.runs.directory import Directory
from merged_diffusion.sampling.samples import Samples
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


ENDINGS = (".npz", ".zip", ".png", "")


def batch(ids, value=0):
    images = np.full((len(ids), 1, 2, 2), value, dtype=np.uint8)
    return Samples(images, np.array(ids), None, 256, {"quality": np.ones(len(ids))})


def drawn(out, seed, halted=lambda: None):
    """What a command of that seed does; every image is of the grey value ``seed``."""
    with Store(out, np.arange(4), IDENTITY | {"seed": seed}) as store:
        held = store.held()
        for ids in ([0, 1], [2, 3]):
            if not held.issuperset(ids):
                store.append(batch(ids, seed))
        halted()
        store.finish()


def died_at(function, nth):
    """This process is killed right after its call number ``nth`` of an ``os`` function."""
    real, count = getattr(os, function), 0

    def call(*args, **options):
        nonlocal count
        result = real(*args, **options)
        count += 1
        if count == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, function, call)


def content(place):
    return {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("function", ["unlink", "rename", "rmdir"])
def test_images_of_another_seed_are_never_those_of_a_killed_command(tmp_path, ending, function):
    expected = {}
    for seed in (1, 2):
        place = tmp_path / f"seed-{seed}"
        place.mkdir()
        drawn(place / f"images{ending}", seed)
        expected[seed] = content(place)
    for nth in range(1, 60):
        place = tmp_path / f"{function}-{nth}"
        place.mkdir()
        out = place / f"images{ending}"
        child = os.fork()
        if child == 0:
            died_at(function, nth)
            drawn(out, 1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        seed = 2
        try:
            drawn(out, seed)
        except RunError:
            seed = 1  # what is there is of that seed, and was told so; its command goes on
            drawn(out, seed)
        assert content(place) == expected[seed]
        if os.WIFEXITED(status):
            break
    assert nth > 1


def halt():
    raise InterruptedError


def test_batches_without_settings_are_never_adopted(out):
    with pytest.raises(InterruptedError):
        drawn(out, 1, halted=halt)
    part = out.with_name("images.npz.part")
    (part / "settings.json").unlink()
    for seed in (1, 2):
        with pytest.raises(RunCorruptError, match=r"batches have no settings\.json"):
            drawn(out, seed)
    assert len(list(part.glob("*.npz"))) == 2


@pytest.mark.parametrize("kept", [0, 1, 40, 300])
def test_a_truncated_batch_is_corrupt_and_is_named(out, kept):
    with pytest.raises(InterruptedError):
        drawn(out, 1, halted=halt)
    first = min(out.with_name("images.npz.part").glob("*.npz"))
    first.write_bytes(first.read_bytes()[:kept])
    with pytest.raises(RunCorruptError, match=first.name) as caught:
        drawn(out, 1)
    assert caught.value.exit_code == 7


def test_a_folder_of_parts_of_others_is_refused_and_left_alone(out):
    part = out.with_name("images.npz.part")
    part.mkdir()
    (part / ".mine").write_text("mine")
    with pytest.raises(RunError, match="not made by this package"):
        drawn(out, 1)
    assert list(content(out.parent).values()) == [b"mine"]


def test_what_others_put_into_a_folder_of_parts_is_not_removed_with_it(out):
    def add():
        (out.with_name("images.npz.part") / "mine.txt").write_text("mine")

    drawn(out, 1, halted=add)
    assert {path.name for path in content(out.parent)} == {"images.npz", "mine.txt"}


def test_batches_that_are_lost_while_images_are_drawn_make_no_output_and_are_drawn_again(out):
    def lose():
        for path in out.with_name("images.npz.part").glob("*.npz"):
            path.unlink()

    drawn(out, 1, halted=lose)
    assert not out.exists()
    drawn(out, 1)
    assert out.is_file()


def test_a_folder_of_parts_that_is_lost_is_code_9_and_the_same_command_goes_on(out):
    def lose():
        part = out.with_name("images.npz.part")
        for path in part.iterdir():
            path.unlink()
        part.rmdir()

    with pytest.raises(IncompleteError, match="lost") as caught:
        drawn(out, 1, halted=lose)
    assert caught.value.exit_code == 9
    drawn(out, 1)
    assert out.is_file()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_worker_that_comes_after_another_wrote_says_what_was_written(tmp_path, ending):
    with begun(tmp_path / f"images{ending}", 0) as one, begun(tmp_path / f"images{ending}", 1) as two:
        one.append(batch([0, 1]))
        two.append(batch([2, 3]))
        assert two.finish() == one.finish()
        assert one.finished["n"] == 4


def test_batches_that_overlap_keep_the_images_of_both(out):
    with begun(out, 0) as one, begun(out, 1) as two:
        one.append(batch([0, 1, 2]))
        two.append(batch([0, 3]))
        two.append(batch([0]))  # and a shorter one of its own
        assert one.held() == two.held() == {0, 1, 2, 3}
        assert one.finish()["n"] == 4


def test_a_batch_whose_name_says_no_worker_is_gone_on_with(out):
    with pytest.raises(InterruptedError):
        drawn(out, 1, halted=halt)
    first = min(out.with_name("images.npz.part").glob("*.npz"))
    first.rename(first.with_name(f"{0:020d}.npz"))
    with Store(out, np.arange(4), IDENTITY | {"seed": 1}) as store:
        assert store.held() == {0, 1, 2, 3}
        assert store.finish()["n"] == 4
    assert not out.with_name("images.npz.part").exists()


def test_a_batch_is_read_once_however_often_ids_are_asked_for(out, monkeypatch):
    with begun(out, 0) as one, begun(out, 1) as two:
        one.append(batch([0, 1]))
        asked, real = [], Directory.read
        monkeypatch.setattr(Directory, "read", lambda self, name: asked.append(name) or real(self, name))
        for _ in range(3):
            assert two.held() == {0, 1}
        two.append(batch([2, 3]))
        assert two.held() == {0, 1, 2, 3}
        assert len(asked) == len(set(asked)) == 2


def test_a_disk_that_cannot_be_read_is_a_storage_error(out, monkeypatch):
    with pytest.raises(InterruptedError):
        drawn(out, 1, halted=halt)
    real = os.open

    def fail(name, *args, **options):
        if str(name).endswith(".npz"):
            raise OSError(5, "Input/output error")
        return real(name, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StorageError, match="Input/output"):
        drawn(out, 1)
