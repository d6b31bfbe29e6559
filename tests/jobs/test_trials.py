"""A file that says too little is shown in every published reading, on the user's images; none is chosen."""

import numpy as np
import pytest
import torch
from tests.checkpoints.public_files import REFERENCE, SAID

import merged_diffusion as md
from merged_diffusion.errors import CheckpointError, ExpertWarning
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.other_words import others
from merged_diffusion.jobs import trials
from merged_diffusion.jobs.models import build_models
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.merge import as_model

NCSNPP = REFERENCE / "score-sde" / "ncsnpp-ve" / "checkpoint.pth"
GUIDED = REFERENCE / "openai" / "guided-32groups" / "checkpoint.pt"


@pytest.fixture
def data(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8))
    return md.load_data(tmp_path / "mine.npz")


def asked(path, data):
    with pytest.raises(CheckpointError) as caught:
        build_models(Settings(data=data.name, expert=str(path)), data)
    return caught.value


def test_every_reading_that_the_file_allows_is_shown_with_its_loss(data):
    error = asked(GUIDED, data)
    rows = [line.split("--as ")[1] for line in error.message.splitlines() if "--as openai:" in line]
    assert {"heads=1,order=legacy,schedule=linear", "heads=4,order=legacy,schedule=cosine"} <= {
        row.removeprefix("openai:").partition(",steps")[0] for row in rows
    }
    assert all(md.load_expert(GUIDED, read_as=words) for words in rows)
    assert error.hint.startswith("none of them denoises")


def test_the_size_of_the_images_is_tried_where_names_need_one(data):
    assert "--as score_sde:sde=ve,size=8" in asked(NCSNPP, data).message


def test_the_least_loss_is_first_and_nothing_is_chosen(data, monkeypatch):
    losses = {"openai:heads=1": (0.2, True), "openai:heads=4": (0.9, False)}

    def tried(file, words, _):
        return [(*losses[key][:1], words, losses[key][1]) for key in losses if words.startswith(key)]

    monkeypatch.setattr(trials, "_tried", tried)
    error = asked(GUIDED, data)
    first = next(line for line in error.message.splitlines() if "--as" in line)
    assert "heads=1" in first
    assert error.hint.startswith("the least is probably it")


def test_another_error_is_passed_on(data, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"PK\3\4nothing")
    error = asked(tmp_path / "a.pt", data)
    assert "loss" not in error.message


def test_the_start_check_tries_the_words_with_one_changed(data):
    expert = as_model(md.load_expert(GUIDED, read_as=SAID["openai/guided-32groups"])).legs()[0].expert
    lines = [line for _, line, _ in others(expert) if line and line.startswith("--as")]
    assert len(lines) == 3  # rescaled, the schedule, the order
    assert all(line.startswith("--as openai:") for line in lines)
    x = torch.from_numpy(data.images).double() / 127.5 - 1
    with pytest.warns(ExpertWarning, match="does not denoise these images"):
        check_expert(expert, (3, 8, 8), images=x)
