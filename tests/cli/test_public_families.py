"""Files of the public families on the command line, with what has to be said of them."""

import json

import numpy as np
import pytest
from tests.checkpoints.public_files import SAID, checkpoint, config

from merged_diffusion.cli import main

ONE_EACH = (
    *("edm-nets/iddpm", "edm2/cond", "lucidrains/v-sigmoid", "openai/improved-uncond", "torchcfm/icfm"),
    "score-sde/ncsnpp-ve",
)
COARSE = ("--tol", "100", "--h-max", "10")  # random weights are rough, and no number is looked at here


@pytest.fixture(params=ONE_EACH)
def named(request, tmp_path):
    """(the words of the command for its model, whether it is conditional)."""
    words = SAID[request.param]
    model = [str(checkpoint(request.param, tmp_path))] + ([] if words is None else ["--as", words])
    options = config(request.param)
    return model, bool(options.get("label_dim") or options.get("num_classes"))


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8)
    np.savez(tmp_path / "mine.npz", images=pixels)
    return str(tmp_path / "mine.npz")


@pytest.mark.filterwarnings("ignore")
def test_a_file_is_inspected_scored_sampled_and_converted(named, images, tmp_path, capsys):
    (file, *words), is_conditional = named
    labels = ["--labels", "1"] if is_conditional else []

    def run(*arguments):
        assert main([*arguments, "-q"]) == 0
        return capsys.readouterr().out

    facts = json.loads(run("experts", "inspect", file, *words, "--json"))["expert"]
    assert facts["labels"] == is_conditional
    scored = ("nll", "--data", images, "--limit", "1", "--expert")
    found = json.loads(run(*scored, file, *words, *labels, *COARSE, "--json"))
    assert found["bits_per_dim"]["mean"] > 0
    run("experts", "convert", file, str(tmp_path / "folder"), *words)
    drawn = str(tmp_path / "drawn.npz")
    size = [] if facts["image_shape"][1] else ["--image-shape", "3,8,8"]
    run(
        "sample", "--expert", file, *words, *labels, *size, "--sampler", "ancestral", "--steps", "2",
        "--num", "1", "--out", drawn,
    )  # fmt: skip
    with np.load(drawn) as arrays:
        assert next(iter(arrays.values())).shape[0] == 1


def test_words_of_one_model_are_refused_where_two_are_named(images, capsys):
    code = main(
        ["nll", "--data", images, "--likelihood-expert", "a.pt", "--quality-expert", "b.pt", "--as", "openai"]
    )
    assert code == 2
    assert "'FILE as FAMILY:...'" in capsys.readouterr().err
