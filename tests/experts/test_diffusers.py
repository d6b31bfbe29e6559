"""diffusers' networks: the same numbers as a direct call between timesteps; folders that are only read."""

import json
import math
import struct

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file

import merged_diffusion as md
from merged_diffusion.errors import (
    CheckpointError,
    ExpertError,
    UnsafeFileError,
    UnsupportedCheckpointError,
    UsageError,
)
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.diffusers import load_diffusers, scheduler_gammas
from merged_diffusion.experts.diffusers_folder import MAX_CONFIG_BYTES
from merged_diffusion.experts.inspection import inspect_expert

PREDICTIONS = ("epsilon", "sample", "v_prediction")
# Twenty, none of them an integer, the first and the last interval among them.
TIMESTEPS = np.concatenate([[0.25], np.random.RandomState(0).uniform(1, 998, 18), [998.75]])
SMALL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}


def make_unet(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(**(SMALL | options)).eval()


def gamma_at(scheduler, timestep):
    """Linear between the scheduler's own log-SNR at its timesteps."""
    signal = scheduler.alphas_cumprod.double().numpy()
    return np.interp(timestep, np.arange(len(signal)), np.log((1 - signal) / signal))


def directly(unet, predicts, z, timestep, gamma, label=None):
    """eps_hat by diffusers' call and the definition of what it predicts, one image, in float64."""
    time = torch.tensor([timestep], dtype=z.dtype)
    with torch.no_grad():
        out = unet(z, time, class_labels=label).sample.double()
    alpha, sigma = 1 / math.sqrt(1 + math.exp(gamma)), 1 / math.sqrt(1 + math.exp(-gamma))
    if predicts == "epsilon":
        return out
    return (z.double() - alpha * out) / sigma if predicts == "sample" else sigma * z.double() + alpha * out


def direct_rows(unet, predicts, z, gamma):
    rows = zip(z.split(1), TIMESTEPS, gamma, strict=True)
    return torch.cat([directly(unet, predicts, row, timestep, g) for row, timestep, g in rows])


def worst_of_rows(found, exact):
    """Largest distance of a row in units of its largest value."""
    distance = (found - exact).abs().flatten(1).amax(1)
    return float((distance / exact.abs().flatten(1).amax(1)).max())


def noise(n=1, seed=1, dtype=torch.float32):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_between_timesteps_it_is_the_direct_call(predicts, dtype):
    scheduler = DDPMScheduler(prediction_type=predicts)
    unet = make_unet()
    gamma = gamma_at(scheduler, TIMESTEPS)
    z = noise(len(TIMESTEPS))
    rounded = direct_rows(unet, predicts, z, gamma)
    exact = direct_rows(unet.double(), predicts, z.double(), gamma)
    expert = md.DiffusersExpert(unet.to(dtype), scheduler)
    with torch.no_grad():
        found = expert(z.to(dtype), torch.from_numpy(gamma)).double()
    # In float64 what is left is the clock, good to 1e-9 of a timestep, and eps_hat moves by less than itself
    # in a whole one. In float32, rows at once and rows alone are two orders of the same sums; how far such an
    # order is off says the direct call (2e-7 to 9e-7): four times its worst row holds for any sound kernel.
    limit = 1e-9 if dtype == torch.float64 else 4 * worst_of_rows(rounded, exact)
    assert worst_of_rows(found, exact) < limit


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_range_is_the_tables_ends_and_the_clock_is_its_inverse(schedule):
    scheduler = DDPMScheduler(beta_schedule=schedule)
    expert = md.DiffusersExpert(make_unet(), scheduler)
    assert expert.gamma_range == pytest.approx(tuple(gamma_at(scheduler, np.array([0.0, 999.0]))), rel=1e-15)
    found = expert.clock(torch.from_numpy(gamma_at(scheduler, TIMESTEPS)))
    np.testing.assert_allclose(found.numpy(), TIMESTEPS, rtol=0, atol=1e-9)
    between = torch.linspace(*expert.gamma_range, 5000, dtype=torch.float64)
    assert bool((expert.clock(between).diff() > 0).all())


def test_facts_are_those_of_the_configs():
    expert = md.DiffusersExpert(UNet2DModel(**SMALL), DDPMScheduler())
    assert (expert.image_shape, expert.levels, expert.pixels) == ((3, 8, 8), 256, "ends")
    assert not expert.conditional
    assert not expert.net.unet.training
    any_size = make_unet(sample_size=None)
    assert md.DiffusersExpert(any_size, DDPMScheduler()).image_shape == (3, None, None)
    oblong = make_unet(sample_size=(8, 16), in_channels=1, out_channels=1)
    assert md.DiffusersExpert(oblong, DDPMScheduler(), levels=17).image_shape == (1, 8, 16)


def test_schedulers_of_one_training_are_one_expert():
    unet = make_unet()
    gamma, z = torch.tensor([-2.5], dtype=torch.float64), noise()
    with torch.no_grad():
        one, two, three = (
            md.DiffusersExpert(unet, kind())(z, gamma)
            for kind in (DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler)
        )
    assert torch.equal(one, two)
    assert torch.equal(one, three)


def test_a_last_step_without_signal_is_left_out():
    scheduler = DDPMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert float(scheduler.alphas_cumprod[-1]) == 0
    gammas = scheduler_gammas(scheduler)
    assert len(gammas) == 999
    assert bool(gammas.isfinite().all())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers
@pytest.mark.parametrize("n", [10, 1000])
@pytest.mark.parametrize(
    "kind",
    [
        EulerDiscreteScheduler,
        EulerAncestralDiscreteScheduler,
        DPMSolverMultistepScheduler,
        UniPCMultistepScheduler,
    ],
)
def test_a_last_step_with_a_stand_in_for_no_signal_is_left_out(kind, n):
    """2^-24: of a thousand steps it lies above the entry before it, of ten below."""
    options = {"rescale_betas_zero_snr": True, "num_train_timesteps": n}
    scheduler = kind(**options)
    assert float(scheduler.alphas_cumprod[-1]) == 2**-24
    expected = scheduler_gammas(DDPMScheduler(**options))
    assert len(expected) == n - 1
    assert torch.equal(scheduler_gammas(scheduler), expected)


def test_classes_are_labels():
    unet = make_unet(num_class_embeds=10)
    scheduler = DDPMScheduler()
    expert = md.DiffusersExpert(unet, scheduler)
    assert expert.conditional
    gamma, z, label = gamma_at(scheduler, 400.5), noise(), torch.tensor([7])
    with torch.no_grad():
        found = expert(z, torch.tensor([gamma], dtype=torch.float64), label)
    # One row and one row: the same call.
    assert torch.equal(found.double(), directly(unet, "epsilon", z, 400.5, gamma, label))
    with pytest.raises(ExpertError, match="class_labels should be provided"):
        expert(z, torch.tensor([0.0], dtype=torch.float64))


def test_of_a_learned_variance_the_prediction_is_taken():
    unet = make_unet(out_channels=6)
    scheduler = DDPMScheduler(variance_type="learned_range")
    gamma, z = gamma_at(scheduler, 400.5), noise()
    with torch.no_grad():
        found = md.DiffusersExpert(unet, scheduler)(z, torch.tensor([gamma], dtype=torch.float64))
        exact = unet(z, torch.tensor([400.5])).sample[:, :3]
    assert torch.equal(found, exact)
    with pytest.raises(ExpertError, match="out_channels = 6"):
        md.DiffusersExpert(unet, DDPMScheduler())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"center_input_sample": True}, "center_input_sample"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type = 'fourier'"),
        ({"time_embedding_type": "learned", "num_train_timesteps": 1000}, "'learned'"),
        ({"class_embed_type": "identity"}, "class_embed_type"),
    ],
)
def test_networks_with_another_call_are_refused(options, said):
    with pytest.raises(ExpertError, match=said):
        md.DiffusersExpert(make_unet(**options), DDPMScheduler())


def test_what_is_no_such_pair_is_refused():
    conditional = UNet2DConditionModel(
        **{k: v for k, v in SMALL.items() if not k.endswith("types")},
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
    )
    with pytest.raises(ExpertError, match="cross_attention_dim"):
        md.DiffusersExpert(conditional, DDPMScheduler())
    with pytest.raises(UsageError, match="without a config"):
        md.DiffusersExpert(torch.nn.Identity(), DDPMScheduler())
    scheduler = EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction")
    with pytest.raises(ExpertError, match="timestep_type"):
        md.DiffusersExpert(make_unet(), scheduler)
    with pytest.raises(ExpertError, match="distilled"):
        md.DiffusersExpert(make_unet(), LCMScheduler())
    scheduler = DDPMScheduler()
    del scheduler.alphas_cumprod
    with pytest.raises(ExpertError, match="no alphas_cumprod"):
        md.DiffusersExpert(make_unet(), scheduler)
    with pytest.raises(ExpertError, match="does not fall strictly"):
        md.DiffusersExpert(make_unet(), DDPMScheduler(trained_betas=[0.1, 0.0, 0.1]))
    with pytest.raises(ExpertError, match="prediction_type = 'flow'"):
        md.DiffusersExpert(make_unet(), DDPMScheduler(prediction_type="flow"))


@pytest.fixture
def folder(tmp_path):
    """A network and its scheduler as a pipeline saves them."""
    path = tmp_path / "small"
    make_unet().save_pretrained(path / "unet")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(path / "scheduler")
    index = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    (path / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"} | index))
    return path


def edit(path, **changes):
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (config | changes).items() if v != "absent"}))


def same(one, two):
    gamma, z = torch.tensor([-2.5, 1.5], dtype=torch.float64), noise(2)
    with torch.no_grad():
        return torch.equal(one(z, gamma), two(z, gamma))


def test_a_saved_pair_gives_the_same_bits(folder):
    expert = load_diffusers(folder)
    assert same(expert, md.DiffusersExpert(make_unet(), DDPMScheduler(prediction_type="v_prediction")))
    assert expert.name == expert.provenance["name"] == "small"
    assert expert.provenance["kind"] == expert.provenance["format"] == "diffusers"
    assert len(expert.provenance["sha256"]) == 64
    check_expert(expert)


def test_both_parts_may_lie_in_one_folder(folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()):
        path.rename(flat / path.name)
    make_unet().save_pretrained(folder / "unet")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    assert same(load_diffusers(flat), load_diffusers(folder))


def put_mean(folder, name, factor=0.9, weights="diffusion_pytorch_model.safetensors"):
    """A copy of ``unet/`` with other weights, as a training keeps their running mean."""
    target = folder / name
    target.mkdir(exist_ok=True)
    (target / "config.json").write_bytes((folder / "unet" / "config.json").read_bytes())
    state = {key: factor * value for key, value in make_unet().state_dict().items()}
    save_file(state, target / weights)
    return state


@pytest.mark.parametrize("name", ["unet_ema", "ema_unet", "unet-ema", "EMA", "unet.ema"])
def test_the_running_mean_is_taken_and_said(folder, name, caplog):
    raw = load_diffusers(folder)
    assert not caplog.records
    state = put_mean(folder, name)
    expert = load_diffusers(folder)
    assert torch.equal(expert.net.unet.conv_in.weight, state["conv_in.weight"])
    assert not same(expert, raw)
    assert f"{name}/, the running mean" in caplog.text
    assert expert.provenance["weights"] == f"{name}/diffusion_pytorch_model.safetensors"
    assert any("running mean" in text for text in inspect_expert(folder)["warnings"])


def test_the_running_mean_is_taken_where_it_is_alone_or_within_the_network_folder(folder, caplog):
    state = put_mean(folder, "unet", weights="diffusion_pytorch_model.ema.safetensors")
    assert torch.equal(load_diffusers(folder).net.unet.conv_in.weight, state["conv_in.weight"])
    assert "diffusion_pytorch_model.ema.safetensors is taken" in caplog.text
    (folder / "unet").rename(folder / "unet_ema")
    (folder / "model_index.json").unlink()
    assert torch.equal(load_expert(folder).net.unet.conv_in.weight, state["conv_in.weight"])


def test_weights_that_say_they_are_no_running_mean_are_none(folder, caplog):
    raw = load_diffusers(folder)
    put_mean(folder, "unet", weights="diffusion_pytorch_model.non_ema.safetensors")
    put_mean(folder, "unet_non_ema")
    put_mean(folder, "unet_schema")
    assert same(load_diffusers(folder), raw)
    assert not caplog.records


@pytest.mark.parametrize("fault", ["two", "pickle", "variant in a pickle", "no config"])
def test_raw_weights_are_not_taken_for_a_running_mean_that_cannot_be_read(folder, fault):
    put_mean(folder, "unet_ema")
    weights = folder / "unet_ema" / "diffusion_pytorch_model.safetensors"
    if fault == "two":
        put_mean(folder, "ema_0.9999")
    elif fault == "pickle":
        weights.rename(weights.with_suffix(".bin"))
    elif fault == "no config":
        (folder / "unet_ema" / "config.json").unlink()
    else:
        weights.rename(folder / "unet" / "diffusion_pytorch_model.ema.bin")
        (folder / "unet_ema" / "config.json").unlink()
        (folder / "unet_ema").rmdir()
    with pytest.raises(CheckpointError, match=r"running means|pickle|running mean|raw weights"):
        load_diffusers(folder)


def test_options_of_the_running_mean_are_none_of_the_network(folder, tmp_path):
    unet = make_unet()
    mean = EMAModel(unet.parameters(), model_cls=UNet2DModel, model_config=unet.config)
    for place in (folder / "unet", folder / "unet_ema"):
        mean.save_pretrained(place)
        assert {"decay", "inv_gamma", "optimization_step"} <= json.loads(
            (place / "config.json").read_text()
        ).keys()
        assert same(
            load_diffusers(folder), md.DiffusersExpert(unet, DDPMScheduler(prediction_type="v_prediction"))
        )


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "module._orig_mod", "_orig_mod.module"])
@pytest.mark.parametrize("part", [1, 2])
def test_names_of_wrapped_networks_are_read_without_the_wrapper(folder, wrapper, part, caplog):
    expert = load_diffusers(folder)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    wrapped = {
        f"{wrapper}.{key}" if i % part == 0 else key: value for i, (key, value) in enumerate(tensors.items())
    }
    save_file(wrapped, path)
    caplog.clear()
    assert same(load_diffusers(folder), expert)
    assert wrapper.split(".")[0] in caplog.text
    save_file(tensors | {f"{wrapper}.conv_in.bias": tensors["conv_in.bias"] + 1}, path)
    with pytest.raises(CheckpointError, match=r"holds conv_in\.bias twice"):
        load_diffusers(folder)


def test_names_and_options_of_old_files_are_known(folder):
    expert = load_diffusers(folder)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for key, value in load_file(path).items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        tensors[key] = value
    assert any(".proj_attn." in key for key in tensors)
    save_file(tensors, path)
    assert same(load_diffusers(folder), expert)
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type="absent", predict_epsilon=False)
    assert load_diffusers(folder).predicts == "x0"


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ("unet/config.json", {"_class_name": "os.system"}, "os.system"),
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "LCMScheduler"),
        ("unet/config.json", {"novelty": 1}, "novelty"),
        ("unet/config.json", {"down_block_types": ["DownBlock2D", "KDownBlock2D"]}, "KDownBlock2D"),
        ("unet/config.json", {"layers_per_block": 10**6}, "layers_per_block"),
        ("unet/config.json", {"block_out_channels": [8, 10**9]}, "block_out_channels"),
        ("unet/config.json", {"block_out_channels": [8] * 1000}, "block_out_channels"),
        ("unet/config.json", {"act_fn": {"a": 1}}, "act_fn"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "vqvae"),
    ],
)
def test_what_is_not_known_is_refused_by_name(folder, file, changes, said):
    edit(folder / file, **changes)
    with pytest.raises(UnsupportedCheckpointError, match=said) as caught:
        load_diffusers(folder)
    assert caught.value.exit_code == 4
    assert caught.value.hint


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("unet/config.json", {"norm_num_groups": 3}, "makes no UNet2DModel"),
        ("unet/config.json", {"act_fn": "unheard"}, "makes no UNet2DModel"),
        ("unet/config.json", {"block_out_channels": [8, 32]}, "has shape"),
        ("unet/config.json", {"block_out_channels": [65536, 65536]}, "has shape|makes no"),
        ("unet/config.json", {"center_input_sample": True}, "center_input_sample"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "a table of 1000000000000"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1, -0.1, 0.1]}, "does not fall strictly"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "unheard"}, "makes no DDPMScheduler"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type"),
        ("scheduler/scheduler_config.json", {"prediction_type": ["epsilon"]}, "prediction_type"),
        ("unet/config.json", {"sample_size": "large"}, "sample_size"),
        ("unet/config.json", {"sample_size": [8, 8, 8]}, "sample_size"),
    ],
)
def test_what_does_not_fit_is_refused(folder, file, changes, said):
    edit(folder / file, **changes)
    with pytest.raises(CheckpointError, match=said):
        load_diffusers(folder)


@pytest.mark.parametrize("text", ["{", "[]", '"unet"', "[" * 100_000, '{"a": NaN}\udcff'])
def test_configs_that_are_no_object_are_refused(folder, text):
    (folder / "unet" / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_diffusers(folder)


def test_a_config_over_the_limit_is_refused(folder):
    (folder / "unet" / "config.json").write_text(" " * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(UnsafeFileError, match="is refused"):
        load_diffusers(folder)


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_part_is_named(folder, part):
    (folder / part).unlink()
    with pytest.raises(CheckpointError, match=part):
        load_diffusers(folder)


def test_pickled_weights_are_not_read(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(UnsupportedCheckpointError, match=r"diffusion_pytorch_model\.bin, a pickle"):
        load_diffusers(folder)
    path.with_suffix(".bin").unlink()
    with pytest.raises(UnsupportedCheckpointError, match="it is not there"):
        load_diffusers(folder)


def test_weights_that_are_broken_are_refused(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-4], struct.pack("<Q", 1 << 62) + whole[8:], b"PK\x03\x04" + whole[4:]):
        path.write_bytes(content)
        with pytest.raises((CheckpointError, UnsafeFileError)):
            load_diffusers(folder)
