"""Folders of diffusers whose configs ask for other classes or giant networks; and honest ones."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from tests.faults.case import Case
from tests.faults.safetensors_headers import A, B, file

REFUSED = 4
OPTIONS = {
    "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "attention_head_dim": 4,
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
UNET = {
    "class-of-another": {"_class_name": "UNet2DConditionModel"},
    "class-of-python": {"_class_name": "os.system"},
    "class-of-the-module": {"_class_name": "__builtins__"},
    "class-as-list": {"_class_name": ["UNet2DModel"]},
    "class-of-nothing": {"_class_name": None},
    "module-of-another": {"_class_name": "pipelines.DDPMPipeline"},
    "unknown-option": {"custom_code": "evil.py"},
    "option-called-self": {"self": 1},
    "giant-channels": {"block_out_channels": [1 << 40, 1 << 40]},
    "wide-channels": {"block_out_channels": [1 << 16, 1 << 16]},
    "channels-without-end": {"block_out_channels": [8] * 10_000},
    "channels-negative": {"block_out_channels": [-8, 16]},
    "channels-of-none": {"block_out_channels": []},
    "channels-as-text": {"block_out_channels": "8, 16"},
    "channels-of-nan": {"block_out_channels": [float("nan"), 16]},
    "channels-in-lists": {"block_out_channels": [[[8]], 16]},
    "channels-of-other-shape": {"block_out_channels": [16, 16]},
    "layers-without-end": {"layers_per_block": 1 << 30},
    "layers-as-many-as-may-be": {
        "layers_per_block": 64,
        "block_out_channels": [8] * 16,
        "down_block_types": ["AttnDownBlock2D"] * 16,
        "up_block_types": ["AttnUpBlock2D"] * 16,
    },
    "layers-as-text": {"layers_per_block": "1"},
    "blocks-of-another": {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]},
    "blocks-of-python": {"down_block_types": ["DownBlock2D", "os.system"]},
    "blocks-as-numbers": {"down_block_types": [1, 2]},
    "blocks-too-few": {"down_block_types": ["DownBlock2D"]},
    "groups-of-none": {"norm_num_groups": 0},
    "groups-that-do-not-divide": {"norm_num_groups": 7},
    "in-channels-giant": {"in_channels": 1 << 60},
    "in-channels-of-none": {"in_channels": 0},
    "out-channels-of-another": {"out_channels": 5},
    "size-of-text": {"sample_size": "8"},
    "size-of-three": {"sample_size": [8, 8, 8]},
    "time-of-fourier": {"time_embedding_type": "fourier"},
    "time-of-python": {"time_embedding_type": "eval"},
    "activation-of-python": {"act_fn": "__import__('os').system"},
    "classes-giant": {"class_embed_type": None, "num_class_embeds": 1 << 50},
    "centred-twice": {"center_input_sample": True},
    "object-for-a-number": {"layers_per_block": {"a": 1}},
}
SCHEDULER = {
    "class-of-another": {"_class_name": "VQDiffusionScheduler"},
    "class-of-python": {"_class_name": "subprocess.Popen"},
    "steps-without-end": {"num_train_timesteps": 1 << 40},
    "steps-of-one": {"num_train_timesteps": 1},
    "steps-as-text": {"num_train_timesteps": "1000"},
    "steps-of-nan": {"num_train_timesteps": float("nan")},
    "betas-without-end": {"trained_betas": [0.1] * 200_000},
    "betas-of-one": {"trained_betas": [0.1, 1.0, 0.1]},
    "betas-of-nan": {"trained_betas": [float("nan")] * 10},
    "betas-of-text": {"trained_betas": ["a"] * 10},
    "betas-in-lists": {"trained_betas": [[0.1, 0.2]] * 10},
    "betas-that-fall": {"beta_start": -0.1, "beta_end": -0.2},
    "schedule-of-python": {"beta_schedule": "os.system"},
    "predicts-flow": {"prediction_type": "flow_prediction"},
    "predicts-a-list": {"prediction_type": ["epsilon"]},
}


def honest(folder, scheduler=DDPMScheduler, **options):
    """A folder as diffusers writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DModel(**(OPTIONS | options)).save_pretrained(folder / "unet")
    scheduler().save_pretrained(folder / "scheduler")
    return folder


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every folder."""
    folder.mkdir(parents=True)
    whole, made = honest(folder / "honest"), []

    def case(name, place, code=REFUSED):
        made.append(Case(f"diffusers_folders/{name}", place, "expert", code))

    case("honest", whole, 0)
    case("honest-ddim", honest(folder / "ddim", DDIMScheduler), 0)
    case("honest-by-class", honest(folder / "classes", num_class_embeds=3), 0)
    for part, changes in (("unet/config.json", UNET), ("scheduler/scheduler_config.json", SCHEDULER)):
        for name, change in changes.items():
            place = shutil.copytree(whole, folder / f"{part.split('/')[0]}-{name}")
            text = (place / part).read_text()
            (place / part).write_text(json.dumps(json.loads(text) | change))
            case(place.name, place)
        for name, content in texts().items():
            place = shutil.copytree(whole, folder / f"{part.split('/')[0]}-{name}")
            (place / part).write_bytes(content)
            case(place.name, place)
    for name, content in texts().items():
        place = shutil.copytree(whole, folder / f"index-{name}")
        (place / "model_index.json").write_bytes(content)
        case(place.name, place)
    for name, change in weights(whole / "unet").items():
        place = shutil.copytree(whole, folder / f"weights-{name}")
        change(place / "unet" / "diffusion_pytorch_model.safetensors")
        case(place.name, place)
    return made


def texts():
    """What a config should not be."""
    return {
        "deep": b"[" * 100_000,
        "nested-objects": b'{"a":' * 100_000,
        "huge": b"{" + b" " * (1 << 21) + b"}",
        "list": b"[1, 2]",
        "text": b'"UNet2DModel"',
        "not-json": b"{'a': 1}",
        "not-utf8": b'{"\xff": 1}',
        "number-without-end": b'{"a": ' + b"9" * 100_000 + b"}",
        "empty": b"",
        "pickle": b"\x80\x04cos\nsystem\n.",
    }


def weights(unet):
    """What is done to the file of weights."""
    tensors = load_file(unet / "diffusion_pytorch_model.safetensors")
    first = next(iter(tensors))

    def pickled(path):
        path.unlink()
        path.with_suffix(".bin").write_bytes(b"\x80\x04cos\nsystem\n.")

    return {
        "missing": lambda path: path.unlink(),
        "pickled": pickled,
        "of-another": lambda path: path.write_bytes(file({"a": A, "b": B})),
        "of-nan": lambda path: save_file(tensors | {first: torch.full_like(tensors[first], torch.nan)}, path),
        "key-missing": lambda path: save_file({k: v for k, v in tensors.items() if k != first}, path),
        "key-extra": lambda path: save_file(tensors | {"extra": torch.zeros(2)}, path),
        "flattened": lambda path: save_file({k: v.reshape(-1) for k, v in tensors.items()}, path),
        "cut-off": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    }  # fmt: skip
