"""diffusers' networks of EDM's preconditioning and of flow matching, and weights in other forms of files."""

import json

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

import merged_diffusion as md
from merged_diffusion.errors import CheckpointError, ExpertError, UnsafeFileError
from merged_diffusion.schedules import alpha, edm_sigma, per_image, sigma

GAMMA = torch.tensor([-12.0, -5.5, 0.0, 4.0], dtype=torch.float64)
WEIGHTS = "diffusion_pytorch_model.safetensors"


def make_unet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            attention_head_dim=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ).eval()  # fmt: skip


def noisy():
    return torch.randn(len(GAMMA), 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("std", [0.5, 1.0])
def test_edm_is_the_schedulers_own_denoiser(predicts, std):
    unet = make_unet().double()
    scheduler = EDMEulerScheduler(prediction_type=predicts, sigma_data=std)
    expert = md.DiffusersExpert(unet, scheduler)
    z = noisy()
    x, s = z / per_image(alpha(GAMMA), z), edm_sigma(GAMMA)
    with torch.no_grad():
        inputs = torch.cat([scheduler.precondition_inputs(x[i : i + 1], s[i]) for i in range(len(s))])
        out = unet(inputs, scheduler.precondition_noise(s), return_dict=False)[0]
        denoised = torch.cat(
            [scheduler.precondition_outputs(x[i : i + 1], out[i : i + 1], s[i]) for i in range(len(s))]
        )
        found = expert(z, GAMMA)
    torch.testing.assert_close(found, (x - denoised) / per_image(s, x), rtol=0, atol=1e-9)
    assert expert.gamma_range == pytest.approx((-12.4292, 8.7641), abs=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_the_velocity_at_the_time_of_its_noise(shift):
    """The shift belongs to the grid of sampling: the network of a noise level is the same."""
    unet = make_unet().double()
    expert = md.DiffusersExpert(unet, FlowMatchEulerDiscreteScheduler(shift=shift))
    z = noisy()
    both = alpha(GAMMA) + sigma(GAMMA)
    x_t, t = z / per_image(both, z), sigma(GAMMA) / both
    with torch.no_grad():
        u = unet(x_t, 1000 * t, return_dict=False)[0]
        found = expert(z, GAMMA)
    # x_t = (1 - t) x + t eps and u = eps - x.
    torch.testing.assert_close(found, x_t + per_image(1 - t, u) * u, rtol=0, atol=1e-9)


def test_a_flow_whose_time_is_turned_is_refused():
    with pytest.raises(ExpertError, match="runs the other way") as caught:
        md.DiffusersExpert(make_unet(), FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
    assert "data_at=1" in caught.value.hint


@pytest.fixture
def folder(tmp_path):
    unet, scheduler = make_unet(), EDMEulerScheduler()
    unet.save_pretrained(tmp_path / "unet")
    scheduler.save_pretrained(tmp_path / "scheduler")
    return tmp_path


def eps_hat(folder):
    with torch.no_grad():
        return md.load_expert(folder)(noisy().float(), GAMMA)


def test_a_folder_of_edm_is_read(folder):
    expected = md.DiffusersExpert(make_unet(), EDMEulerScheduler())(noisy().float(), GAMMA)
    assert torch.equal(eps_hat(folder), expected)


def test_weights_in_several_files_are_those_of_one(folder):
    expected = eps_hat(folder)
    (folder / "unet" / WEIGHTS).unlink()
    make_unet().save_pretrained(folder / "unet", max_shard_size="20KB")
    assert len(list((folder / "unet").glob("*-of-*.safetensors"))) > 2
    assert torch.equal(eps_hat(folder), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_read_and_computed_with_in_single(folder, dtype, caplog):
    path = folder / "unet" / WEIGHTS
    half = {key: value.to(dtype) for key, value in load_file(path).items()}
    save_file({key: value.float() for key, value in half.items()}, path)
    expected = eps_hat(folder)
    path.unlink()
    name = "fp16" if dtype == torch.float16 else "bf16"
    save_file(half, folder / "unet" / f"diffusion_pytorch_model.{name}.safetensors")
    assert torch.equal(eps_hat(folder), expected)
    assert "the only file of weights" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("other", "holds other tensors than it lists"),
        ("outside", "names no 1 to 100 files beside it"),
        ("text", "no index of weights by file"),
        ("lost", "cannot be read"),
    ],
)
def test_an_index_that_lies_is_refused(folder, change, message):
    (folder / "unet" / WEIGHTS).unlink()
    make_unet().save_pretrained(folder / "unet", max_shard_size="20KB")
    path = folder / "unet" / f"{WEIGHTS}.index.json"
    index = json.loads(path.read_text())
    places = index["weight_map"]
    if change == "other":
        places["conv_in.weight"] = places["conv_out.weight"]
    elif change == "outside":
        places["conv_in.weight"] = "../../elsewhere.safetensors"
    elif change == "lost":
        (folder / "unet" / places["conv_in.weight"]).unlink()
    path.write_text("[]" if change == "text" else json.dumps(index))
    with pytest.raises((CheckpointError, UnsafeFileError), match=message):
        md.load_expert(folder)
