"""What a user says of a file by ``--as``: read, followed, and refused where it contradicts."""

import pickle
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.checkpoints import writers
from tests.checkpoints.public_files import REFERENCE, SAID, checkpoint, lucidrains, score_sde

import merged_diffusion as md
from merged_diffusion.errors import CheckpointError, ExpertError, UnsupportedCheckpointError, UsageError
from merged_diffusion.experts.checkpoints.read_as import parsed
from merged_diffusion.experts.nets import openai_unet
from merged_diffusion.experts.nets.ddpmpp import Ddpmpp
from merged_diffusion.experts.nets.lucid_unet import LucidUnet
from merged_diffusion.experts.nets.openai_blocks import Attention
from merged_diffusion.experts.other_words import others
from merged_diffusion.experts.public_expert import steps_range
from merged_diffusion.jobs.models import build_models
from merged_diffusion.jobs.settings import Settings

OPENAI = SAID["openai/guided-cond"]
GUIDED = REFERENCE / "openai" / "guided-cond" / "checkpoint.pt"
FLOW = REFERENCE / "torchcfm" / "icfm" / "checkpoint.pt"


@pytest.mark.parametrize(
    ("text", "family", "options"),
    [
        ("openai:heads=4,schedule=cosine", "openai", {"heads": 4, "schedule": "cosine"}),
        ("openai:cosine,rescaled", "openai", {"schedule": "cosine", "rescaled": True}),
        ("score-sde:ve", "score_sde", {"sde": "ve"}),
        ("score_sde:subvp,fir=no,beta_max=20", "score_sde", {"sde": "subvp", "fir": False, "beta_max": 20}),
        ("lucidrains", "lucidrains", {}),
        (" torchcfm : otcfm , heads = 2 ", "torchcfm", {"model": "otcfm", "heads": 2}),
    ],
)
def test_words_are_read(text, family, options):
    said = parsed(text)
    assert (said.family, dict(said.options)) == (family, options)
    assert parsed(str(said)) == said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("opena", "no family of checkpoints; known: edm, openai"),
        ("openai:heds=4", "did you mean heads"),
        ("openai:heads=0", "not this: A whole number from 1"),
        ("openai:heads=many", "not this: A whole number from 1"),
        ("openai:schedule=cubic", "not this: 'linear' or 'cosine' or 'sigmoid'"),
        ("openai:heads=4,heads=2", "heads is said twice"),
        ("score_sde:vpsde", "not this: 'vp' or 'subvp' or 've'"),
        ("score_sde:beta_min=nan", "not this: A number above 0"),
        ("edm:heads=4", "no option of it; edm takes pixels, whole_steps"),
        ("", "no family of checkpoints"),
    ],
)
def test_words_that_mean_nothing_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parsed(text)


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("openai", ["heads", "order"]),
        ("openai:heads=2", ["order"]),
        ("openai:heads=2,order=new", ["schedule", "steps", "rescaled"]),
        ("openai:heads=2,order=new,cosine,rescaled=no", ["steps"]),
        ("torchcfm:heads=2,order=new", ["model"]),
    ],
)
def test_what_the_file_does_not_say_is_asked_for(words, needed):
    with pytest.raises(CheckpointError, match="the file does not say") as caught:
        md.load_expert(GUIDED, read_as=words)
    assert caught.value.fields["differences"] == needed


def test_nothing_is_guessed():
    with pytest.raises(CheckpointError, match="says neither heads") as caught:
        md.load_expert(GUIDED)
    assert "--as openai:" in str(caught.value)
    with pytest.raises(CheckpointError, match="says neither heads") as caught:
        md.load_expert(FLOW)
    assert "--as torchcfm:" in str(caught.value)
    with pytest.raises(CheckpointError, match="does not say sde"):
        md.load_expert(REFERENCE / "score-sde" / "ncsnpp-ve" / "checkpoint.pth")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openai/guided-cond", "lucidrains"),
        ("lucidrains/v-sigmoid", "openai:heads=4"),
        ("score-sde/ncsnpp-ve", "torchcfm:icfm"),
        ("edm-nets/vp", "score_sde:vp"),
        ("edm2/cond", "openai"),
    ],
)
def test_a_family_that_the_names_contradict_is_refused(name, words, tmp_path):
    with pytest.raises(CheckpointError, match=r"--as .* is said"):
        md.load_expert(checkpoint(name, tmp_path), read_as=words)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("lucidrains/v-sigmoid", "lucidrains:pred_noise", "weights of its loss are those of pred_v"),
        (
            "score-sde/ncsnpp-ve",
            "score_sde:ve,size=8,sigma_max=80",
            "sigma_max = 80 is said, the file holds 50",
        ),
        ("score-sde/ncsnpp-ve", "score_sde:vp,size=8", "vp is said of a network that knows sigma"),
        ("score-sde/ddpmpp-vp", "score_sde:ve,size=8", "knows the numbers of its sigmas only"),
    ],
)
def test_an_option_that_the_file_contradicts_is_refused(name, words, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        md.load_expert(checkpoint(name, tmp_path), read_as=words)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
@pytest.mark.parametrize("is_min_snr", [False, True])
def test_the_weights_of_the_loss_tell_the_objective(objective, is_min_snr, tmp_path):
    tensors = load_file(REFERENCE / "lucidrains" / "x0-cosine" / "weights.safetensors")
    snr = tensors["sqrt_recipm1_alphas_cumprod"].double() ** -2
    shown = snr.clamp(max=5) if is_min_snr else snr
    laws = {"pred_noise": shown / snr, "pred_x0": shown, "pred_v": shown / (snr + 1)}
    tensors["loss_weight"] = laws[objective].float()
    ema = {f"ema_model.{key}": value for key, value in tensors.items()} | {"step": torch.tensor(200)}
    torch.save({"step": 1, "model": {}, "ema": ema}, tmp_path / "model-1.pt")
    expert = md.load_expert(tmp_path / "model-1.pt")
    assert expert.predicts == {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}[objective]


def test_weights_of_a_loss_of_their_own_are_asked_about(tmp_path):
    tensors = load_file(REFERENCE / "lucidrains" / "x0-cosine" / "weights.safetensors")
    tensors["loss_weight"] = torch.rand_like(tensors["loss_weight"]) + 7
    ema = {f"ema_model.{key}": value for key, value in tensors.items()}
    torch.save({"ema": ema}, tmp_path / "model-1.pt")
    with pytest.raises(CheckpointError, match="does not say objective"):
        md.load_expert(tmp_path / "model-1.pt")
    assert md.load_expert(tmp_path / "model-1.pt", read_as="lucidrains:pred_v").predicts == "v"


def test_a_card_beside_the_file_says_it_as_well_and_must_not_be_contradicted(tmp_path):
    shutil.copy(GUIDED, tmp_path / "weights.pt")
    card = md.convert_expert(GUIDED, tmp_path / "converted", read_as=OPENAI)
    text = (tmp_path / "converted" / "card.toml").read_text()
    (tmp_path / "card.toml").write_text(text)
    expected, found = md.load_expert(GUIDED, read_as=OPENAI), md.load_expert(tmp_path / "weights.pt")
    z, gamma = torch.randn(1, 3, 8, 8), torch.tensor([-3.0], dtype=torch.float64)
    label = torch.tensor([2])
    assert card.clock == found.clock_table
    assert torch.equal(found(z, gamma, label), expected(z, gamma, label))
    assert md.load_expert(tmp_path / "weights.pt", read_as=OPENAI).gamma_range == expected.gamma_range
    for other in (OPENAI.replace("cosine", "linear"), OPENAI.replace("order=new", "order=legacy")):
        with pytest.raises(CheckpointError, match=r"contradicts card\.toml"):
            md.load_expert(tmp_path / "weights.pt", read_as=other)


def test_a_card_beside_score_sde_tells_size_and_filter(tmp_path):
    source = checkpoint("score-sde/ncsnpp-ve", tmp_path)
    md.convert_expert(source, tmp_path / "converted", read_as="score_sde:ve,size=8")
    shutil.copy(source, tmp_path / "checkpoint_1.pth")
    shutil.copy(tmp_path / "converted" / "card.toml", tmp_path / "card.toml")
    z, gamma = torch.randn(1, 3, 8, 8), torch.tensor([-3.0], dtype=torch.float64)
    expected = md.load_expert(source, read_as="score_sde:ve,size=8")
    assert torch.equal(md.load_expert(tmp_path / "checkpoint_1.pth")(z, gamma), expected(z, gamma))


def test_a_card_and_words_say_of_score_sde_what_either_leaves_out(tmp_path):
    source = checkpoint("score-sde/ncsnpp-ve", tmp_path)
    md.convert_expert(source, tmp_path / "converted", read_as="score_sde:ve,size=8")
    shutil.copy(source, tmp_path / "checkpoint_1.pth")
    text = (tmp_path / "converted" / "card.toml").read_text()
    (tmp_path / "card.toml").write_text(text)
    assert md.load_expert(tmp_path / "checkpoint_1.pth", read_as="score_sde:ve").image_shape == (3, 8, 8)
    for words in ("score_sde:size=16", "score_sde:fir=no", "score_sde:ve,scale_by_sigma=no"):
        with pytest.raises(CheckpointError, match=r"contradicts card\.toml"):
            md.load_expert(tmp_path / "checkpoint_1.pth", read_as=words)
    with pytest.raises(CheckpointError, match="does not say sde"):
        md.load_expert(tmp_path / "checkpoint_1.pth", read_as="score_sde:scale_by_sigma=no")


def test_a_card_of_ncsnpp_may_leave_its_filter_out(tmp_path):
    source = checkpoint("score-sde/ncsnpp-ve", tmp_path)
    md.convert_expert(source, tmp_path / "converted", read_as="score_sde:ve,size=8")
    shutil.copy(source, tmp_path / "checkpoint_1.pth")
    lines = (tmp_path / "converted" / "card.toml").read_text().splitlines()
    (tmp_path / "card.toml").write_text(
        "\n".join(line for line in lines if not line.startswith("resample_filter"))
    )
    expected = md.load_expert(source, read_as="score_sde:ve,size=8").state_dict()
    for key, tensor in md.load_expert(tmp_path / "checkpoint_1.pth").state_dict().items():
        assert torch.equal(tensor, expected[key]), key


def test_a_card_may_give_weights_of_score_sde_another_kind(tmp_path):
    """DDPM++ trained with the discrete steps of DDPM: no word of `--as` says so, a card does."""
    source = checkpoint("score-sde/ddpmpp-vp", tmp_path)
    card = md.convert_expert(source, tmp_path / "converted", read_as="score_sde:vp,size=8")
    clock = {"schedule": "linear", "steps": 1000}
    discrete = replace(
        card, kind="ddpm", time="timestep", clock=clock, gamma_range=steps_range(clock), sha256=None
    )
    shutil.copy(source, tmp_path / "checkpoint_1.pth")
    (tmp_path / "card.toml").write_text(discrete.toml())
    expert = md.load_expert(tmp_path / "checkpoint_1.pth")
    assert (expert.kind, expert.gamma_range) == ("ddpm", discrete.gamma_range)
    z, gamma = torch.randn(1, 3, 8, 8), expert.clock.table.at(torch.tensor([300.0], dtype=torch.float64))
    torch.testing.assert_close(expert(z, gamma), expert.model(z, torch.tensor([300.0])), atol=1e-4, rtol=1e-4)


def test_a_card_beside_a_file_of_lucidrains_tells_the_objective(tmp_path):
    tensors = load_file(REFERENCE / "lucidrains" / "x0-cosine" / "weights.safetensors")
    tensors["loss_weight"] = torch.rand_like(tensors["loss_weight"]) + 7  # of no known law
    torch.save(lucidrains(tensors), tmp_path / "model-1.pt")
    card = md.convert_expert(tmp_path / "model-1.pt", tmp_path / "converted", read_as="lucidrains:pred_x0")
    (tmp_path / "card.toml").write_text(card.toml())
    assert md.load_expert(tmp_path / "model-1.pt").predicts == "x0"
    with pytest.raises(CheckpointError, match=r"contradicts card\.toml.*objective = pred_v, pred_x0"):
        md.load_expert(tmp_path / "model-1.pt", read_as="lucidrains:pred_v")


@pytest.mark.parametrize(
    "name", ["openai/guided-cond", "torchcfm/icfm", "score-sde/ddpmpp-vp", "edm-nets/vp"]
)
def test_pixels_are_said(name, tmp_path):
    path = checkpoint(name, tmp_path)
    said = SAID[name] or "edm"
    words = f"{said}{',' if ':' in said else ':'}pixels=centred"
    assert md.load_expert(path, read_as=said).pixels == "ends"
    assert md.load_expert(path, read_as=words).pixels == "centred"
    shutil.copy(path, tmp_path / f"mine{path.suffix}")
    md.convert_expert(path, tmp_path / "converted", read_as=words)
    shutil.copy(tmp_path / "converted" / "card.toml", tmp_path / "card.toml")
    with pytest.raises(CheckpointError, match=r"contradicts card\.toml.*pixels = ends, centred"):
        md.load_expert(tmp_path / f"mine{path.suffix}", read_as=f"{words[:-7]}ends")


def test_one_word_stands_beside_a_card_of_openais_networks(tmp_path):
    shutil.copy(GUIDED, tmp_path / "weights.pt")
    md.convert_expert(GUIDED, tmp_path / "converted", read_as=f"{OPENAI},size=8")
    shutil.copy(tmp_path / "converted" / "card.toml", tmp_path / "card.toml")
    for words in ("openai:pixels=ends", "openai:size=8"):
        assert md.load_expert(tmp_path / "weights.pt", read_as=words).image_shape == (3, 8, 8)
    for words in ("openai:pixels=centred", "openai:size=16", "torchcfm:size=8"):
        with pytest.raises(CheckpointError, match="contradicts"):
            md.load_expert(tmp_path / "weights.pt", read_as=words)


def test_a_card_with_other_channels_out_than_images_have_is_refused(tmp_path):
    """One channel would be taken for all three."""
    md.convert_expert(checkpoint("edm-nets/vp", tmp_path), tmp_path / "mine")
    card = tmp_path / "mine" / "card.toml"
    text = card.read_text()
    for n_out in (1, 2, 4):
        card.write_text(text.replace("[network]\n", f"[network]\nout_channels = {n_out}\n"))
        with pytest.raises(CheckpointError, match=f"out_channels = {n_out}, but images have 3 channels"):
            md.load_expert(tmp_path / "mine")


def test_a_second_input_and_a_variance_of_lucidrains_are_told_from_more_channels(tmp_path):
    network = LucidUnet((3, 8, 8), dim=8, dim_mults=(1, 2), self_condition=True, learned_variance=True)
    tables = load_file(REFERENCE / "lucidrains" / "x0-cosine" / "weights.safetensors")
    tensors = {key: tables[key] for key in ("sqrt_recipm1_alphas_cumprod", "loss_weight")}
    tensors |= {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save(lucidrains(tensors), tmp_path / "model-1.pt")
    expert = md.load_expert(tmp_path / "model-1.pt")
    assert expert.image_shape[0] == 3
    z, step = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 9.0])
    assert torch.equal(expert.raw(z, step), network(z, step)[:, :3])


def test_iddpm_is_read_over_ddpmpp_too(tmp_path):
    """The public preconditioning takes either network, made with twice the channels out."""
    config = {
        "img_resolution": 8, "img_channels": 3, "label_dim": 0, "use_fp16": False, "sigma_min": 0.002,
        "sigma_max": 80.0, "sigma_data": 0.5, "model_type": "SongUNet", "model_channels": 8,
        "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "out_channels": 6,
    }  # fmt: skip
    inner = {key: config[key] for key in ("model_channels", "channel_mult", "num_blocks", "out_channels")}
    network = Ddpmpp((3, 8, 8), attn_resolutions=[4], **inner).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ema = writers.edm_object(config, {f"model.{k}": v.detach() for k, v in network.state_dict().items()})
    ema._kind = "iDDPMPrecond"
    u = torch.logspace(2, -2, 20, dtype=torch.float64)  # from the most noise to none
    ema.register_buffer("u", torch.cat([u, u.new_zeros(1)]))
    with writers.edm_modules(), (tmp_path / "network-snapshot-1.pkl").open("wb") as stream:
        pickle.dump({"ema": ema}, stream, protocol=4)
    expert = md.load_expert(tmp_path / "network-snapshot-1.pkl")
    assert expert.image_shape == (3, 8, 8)
    z = torch.randn(2, 3, 8, 8)
    found = expert(z, 2 * u[[15, 4]].log())
    torch.testing.assert_close(found, network(z, torch.tensor([4.0, 15.0]))[:, :3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["cd_imagenet64_l2.pt", "ct_bedroom256.pt"])
def test_a_published_consistency_model_is_refused(name, tmp_path):
    shutil.copy(GUIDED, tmp_path / name)
    with pytest.raises(UnsupportedCheckpointError, match="consistency model"):
        md.load_expert(tmp_path / name, read_as=OPENAI)


@pytest.mark.parametrize(
    ("line", "message"),
    [("num_res_blocks = -1", r"\[network\] of architecture 'openai'"), ("steps = 0", r"\[clock\] of kind")],
)
def test_what_is_wrong_with_a_card_is_said_of_its_folder(line, message, tmp_path):
    md.convert_expert(GUIDED, tmp_path / "mine", read_as=OPENAI)
    card = tmp_path / "mine" / "card.toml"
    key = line.split(" = ", maxsplit=1)[0]
    card.write_text("\n".join(line if row.startswith(key) else row for row in card.read_text().splitlines()))
    with pytest.raises(CheckpointError, match=f"{re.escape(str(tmp_path / 'mine'))}: {message}"):
        md.load_expert(tmp_path / "mine")


def test_words_may_stand_behind_the_name(tmp_path):
    expert = md.load_expert(f"{GUIDED} as {OPENAI}")
    assert expert.provenance["read_as"] == str(parsed(OPENAI))
    named = tmp_path / "same as openai"
    named.mkdir()
    shutil.copy(GUIDED, named / "a.pt")
    assert md.load_expert(f"{named / 'a.pt'} as {OPENAI}").conditional
    with pytest.raises(CheckpointError, match="contradicts the words behind its name"):
        md.load_expert(f"{GUIDED} as {OPENAI}", read_as=OPENAI.replace("cosine", "linear"))
    with pytest.raises(CheckpointError, match="leave --as out"):
        md.load_expert("bundled:digits-vdm", read_as="openai")


def test_coupled_noise_is_refused_where_posterior_means_are_taken():
    words = SAID["torchcfm/icfm"]
    free, coupled = (md.load_expert(FLOW, read_as=words.replace("icfm,", f"{w},")) for w in ("icfm", "otcfm"))
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    assert not free.is_coupled
    for use in (
        lambda expert: md.MergedModel(expert, free, md.Threshold.gamma(-3.0)),
        lambda expert: md.variational_bound(expert, images, times=2),
        lambda expert: md.loss_profile(expert, images, [-5.0, 0.0]),
    ):
        with pytest.raises(ExpertError, match="coupled noise and images"):
            use(coupled)


@pytest.mark.parametrize("part", ["ema", "shadow", "count", "shape"])
def test_running_means_that_do_not_fit_are_refused(part, tmp_path):
    value = score_sde(load_file(REFERENCE / "score-sde" / "ddpmpp-vp" / "weights.safetensors"))
    if part == "ema":
        del value["ema"]
    elif part == "shadow":
        value["ema"] = {"decay": 0.9}
    elif part == "count":
        value["ema"]["shadow_params"].pop()
    else:
        value["ema"]["shadow_params"][3] = torch.zeros(2)
    torch.save(value, tmp_path / "checkpoint_1.pth")
    with pytest.raises(CheckpointError, match=r"running mean|means of weights"):
        md.load_expert(tmp_path / "checkpoint_1.pth", read_as="score_sde:vp,size=8")


def test_a_training_without_a_running_mean_is_refused(tmp_path):
    state = load_file(REFERENCE / "torchcfm" / "icfm" / "weights.safetensors")
    torch.save({"net_model": state, "step": 1}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="no running mean"):
        md.load_expert(tmp_path / "a.pt", read_as=SAID["torchcfm/icfm"])


def test_wrapped_names_of_a_parallel_training_are_read(tmp_path, caplog):
    state = load_file(REFERENCE / "torchcfm" / "icfm" / "weights.safetensors")
    torch.save({"ema_model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pt")
    expert = md.load_expert(tmp_path / "a.pt", read_as=SAID["torchcfm/icfm"])
    z, gamma = torch.randn(1, 3, 8, 8), torch.tensor([-3.0], dtype=torch.float64)
    assert torch.equal(expert(z, gamma), md.load_expert(FLOW, read_as=SAID["torchcfm/icfm"])(z, gamma))


@pytest.mark.parametrize("name", ["score-sde/ncsnpp-ve", "torchcfm/icfm", "openai/guided-cond"])
def test_the_old_container_of_torch_is_read_inertly_too(name, tmp_path):
    value = torch.load(checkpoint(name, tmp_path), weights_only=False)
    torch.save(value, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    words = SAID[name]
    old, new = (
        md.load_expert(tmp_path / "old.pt", read_as=words),
        md.load_expert(checkpoint(name, tmp_path), read_as=words),
    )
    for key, tensor in new.state_dict().items():
        assert torch.equal(old.state_dict()[key], tensor)


def test_other_networks_of_these_codes_are_refused(tmp_path):
    state = load_file(REFERENCE / "openai" / "guided-cond" / "weights.safetensors")
    first = state["input_blocks.0.0.weight"]
    state["input_blocks.0.0.weight"] = torch.cat([first, first], dim=1)
    state["out.2.weight"] = state["out.2.weight"][:3]
    torch.save(state, tmp_path / "upsampler.pt")
    with pytest.raises(UnsupportedCheckpointError, match="upsampler"):
        md.load_expert(tmp_path / "upsampler.pt", read_as=OPENAI)
    old = load_file(REFERENCE / "lucidrains" / "v-sigmoid" / "weights.safetensors")
    ema = {f"ema_model.{k.replace('norm.g', 'norm.weight')}": v for k, v in old.items()}
    torch.save({"ema": ema}, tmp_path / "model-9.pt")
    with pytest.raises(UnsupportedCheckpointError, match=r"before 2\.0"):
        md.load_expert(tmp_path / "model-9.pt")


def test_the_start_check_survives_words_that_the_file_contradicts(tmp_path):
    """Beside a card, or said in agreement with the file, only one word is possible."""
    shutil.copy(GUIDED, tmp_path / "weights.pt")
    md.convert_expert(GUIDED, tmp_path / "converted", read_as=OPENAI)
    shutil.copy(tmp_path / "converted" / "card.toml", tmp_path / "card.toml")
    beside = md.load_expert(tmp_path / "weights.pt", read_as=OPENAI)
    agreed = md.load_expert(
        REFERENCE / "lucidrains" / "v-sigmoid" / "checkpoint.pt", read_as="lucidrains:pred_v"
    )
    for expert in (beside, agreed):
        assert not [line for _, line, _ in others(expert) if line and line.startswith("--as")]


def test_another_reading_is_another_identity(tmp_path):
    """The weights are the same: only what is said of them tells that a run must not go on."""
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images)
    data = md.load_data(tmp_path / "mine.npz")
    words = [OPENAI, OPENAI.replace("cosine", "linear"), OPENAI.replace("order=new", "order=legacy")]
    found = []
    for said in words:
        models = build_models(Settings(data="mine.npz", expert=f"{GUIDED} as {said}"), data)
        (identity,) = models.identity.values()
        found.append((identity.weights_sha256, identity.input))
    assert len({weights for weights, _ in found}) == 1
    assert len({meaning for _, meaning in found}) == 3


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("openai/guided-cond", OPENAI.replace("order=new", "order=new,heads=2"), "are said"),
        ("edm-nets/vp", "edm:whole_steps", "which has no steps"),
        ("edm2/cond", "edm:whole_steps", "which has no steps"),
        ("score-sde/ncsnpp-ve", "score_sde:ve,size=8,beta_max=10", "beta_max is said of ve"),
        ("score-sde/ddpmpp-vp", "score_sde:vp,size=8,sigma_max=10", "sigma_max is said of vp"),
    ],
)
def test_options_without_effect_are_refused(name, words, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        md.load_expert(checkpoint(name, tmp_path), read_as=words)


def test_a_class_is_asked_for_where_none_was_trained():
    expert = md.load_expert(GUIDED, read_as=OPENAI)
    with pytest.raises(ExpertError, match="asked without classes"):
        expert(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.float64))


def test_words_are_not_said_of_code(tmp_path):
    (tmp_path / "mine.py").write_text("expert = None")
    with pytest.raises(UsageError, match="which is code"):
        md.load_expert(f"{tmp_path / 'mine.py'}:expert", read_as="openai:heads=1")


def test_a_card_that_leaves_the_heads_out_is_contradicted_by_words_that_say_some(tmp_path):
    shutil.copy(GUIDED, tmp_path / "weights.pt")
    md.convert_expert(GUIDED, tmp_path / "converted", read_as=OPENAI)
    text = (tmp_path / "converted" / "card.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("num_head", "attention_order"))]
    (tmp_path / "card.toml").write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match=r"contradicts card\.toml.*num_head_channels = 4, 0"):
        md.load_expert(tmp_path / "weights.pt", read_as=OPENAI)


def test_adm_has_as_many_heads_as_are_whole():
    """EDM's rule, channels // 64 of every block: 96 channels are one head of 96."""
    network = {
        "model_channels": 32, "channel_mult": [1, 3], "num_res_blocks": 1, "attention_levels": [1],
        "num_head_channels": 64, "attention_order": "adm", "use_scale_shift_norm": True, "norm_channels": 4,
    }  # fmt: skip
    made = openai_unet.build(network, (3, 8, 8))
    assert {part.heads for part in made.modules() if isinstance(part, Attention)} == {1}
    with pytest.raises(CheckpointError, match="are not whole heads"):
        openai_unet.build(network | {"attention_order": "new"}, (3, 8, 8))
