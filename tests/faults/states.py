"""Sound files whose tensors or tables are not those of a network, in every format; and honest ones."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tests.checkpoints import writers
from tests.faults.case import Case

REFERENCE = Path(__file__).parents[1] / "reference"
REFUSED = 4


def edm_reference(name="uncond"):
    """Config and state dict of a small EDM network."""
    folder = REFERENCE / "edm" / name
    return json.loads((folder / "config.json").read_text()), load_file(folder / "weights.safetensors")


def vdm_reference(name="base"):
    """Config and state dict of a small VDM network."""
    folder = REFERENCE / "vdm" / name
    return json.loads((folder / "config.json").read_text()), load_file(folder / "weights.safetensors")


def faulty(tensors):
    """State dicts with one fault each."""
    keys = sorted(tensors)
    matrix = next(key for key in keys if tensors[key].ndim == 2 and len(set(tensors[key].shape)) == 2)
    first, last = keys[0], keys[-1]

    def changed(key, value):
        return tensors | {key: value}

    return {
        "key-missing": {key: tensors[key] for key in keys if key != matrix},
        "all-keys-missing": {},
        "key-extra": changed("model.another.weight", torch.zeros(3)),
        "transposed": changed(matrix, tensors[matrix].t().contiguous()),
        "another-shape": changed(matrix, tensors[matrix][:-1].contiguous()),
        "flattened": changed(matrix, tensors[matrix].reshape(-1)),
        "nan": changed(first, torch.full_like(tensors[first], torch.nan)),
        "inf": changed(last, torch.full_like(tensors[last], torch.inf)),
    }


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every file, written into ``folder``."""
    folder.mkdir(parents=True)
    return [*edm(folder / "edm"), *addtt(folder / "addtt"), *flax(folder / "flax"), *own(folder / "own")]


def made(name, path, code=REFUSED):
    return Case(f"states/{name}", path, "expert", code)


def edm(folder):
    folder.mkdir()
    config, tensors = edm_reference()
    for name, state in faulty(tensors).items():
        yield made(f"edm-{name}", writers.write_edm(folder / f"{name}.pkl", config, state))
    for key, value in {
        "model_type": "DhariwalUNet", "embedding_type": "fourier", "encoder_type": "residual",
        "decoder_type": "skip", "img_resolution": 1 << 30, "img_channels": 0, "model_channels": 1 << 40,
        "channel_mult": [1] * 5000, "num_blocks": 10**9, "attn_resolutions": "all", "dropout": float("nan"),
        "label_dim": -3, "augment_dim": 1e300, "sigma_data": float("inf"), "resample_filter": [],
    }.items():  # fmt: skip
        path = folder / f"option-{key}.pkl"
        yield made(f"edm-option-{key}", writers.write_edm(path, config | {key: value}, tensors))
    half = {key: value.half() for key, value in tensors.items()}
    yield made("edm-half-honest", writers.write_edm(folder / "half.pkl", config, half), 0)
    for name in ("cond", "aug9"):
        yield made(f"edm-{name}-honest", writers.write_edm(folder / f"{name}.pkl", *edm_reference(name)), 0)


CONFIGS = {
    "tag": "embedding_dim: !!python/object/apply:os.system ['touch {canary}']\n",
    "new-object": "a: !!python/object/new:subprocess.Popen [['touch', '{canary}']]\n",
    "anchors": "a: &a [x, x]\n"
    + "".join(f"k{i}: &k{i} [*{'a' if i == 0 else f'k{i - 1}'}]\n" for i in range(40)),
    "merge": "a: &a {embedding_dim: 8}\n<<: *a\n",
    "deep": "a: " + "[" * 20_000,
    "list": "- 1\n- 2\n",
    "empty": "",
    "not-yaml": "a: b: c: {",
    "bytes": "a: \x00",
    "huge": "# " + "x" * (1 << 17),
    "number-as-text": "embedding_dim: many\nn_blocks: 2\n",
    "huge-network": "embedding_dim: 1000000000\nn_blocks: 1000000000\n",
    "nan": "embedding_dim: .nan\nn_blocks: 2\n",
    "nonlinear": "embedding_dim: 32\nn_blocks: 2\nnoise_schedule: learned_net\n",
}


def addtt(folder):
    config, tensors = vdm_reference()
    for name, state in faulty(tensors).items():
        yield made(f"addtt-{name}", writers.write_addtt(folder / name, config, state))
    for name, text in CONFIGS.items():
        path = writers.write_addtt(folder / f"config-{name}", config, tensors)
        (path.parent / "config.yaml").write_text(text.replace("{canary}", str(folder / "canary")))
        yield made(f"addtt-config-{name}", path)
    for name in ("base", "attn", "like"):
        for new in (False, True):
            path = writers.write_addtt(folder / f"honest-{name}-{new}", *vdm_reference(name), new_ema=new)
            yield made(f"addtt-honest-{name}-{'new' if new else 'old'}", path, 0)


def flax(folder):
    _, tensors = vdm_reference()
    for name in ("nan", "inf", "another-shape", "transposed"):
        yield made(f"flax-{name}", writers.write_flax(folder / name, faulty(tensors)[name]))
    yield made("flax-honest", writers.write_flax(folder / "honest", tensors), 0)
    yield made("flax-honest-fixed", writers.write_flax(folder / "fixed", tensors, None), 0)
    yield made("flax-honest-velocity", writers.write_flax(folder / "i-dode-cifar10", tensors), 0)
    for name, gamma in {"nan": (float("nan"), 1.0), "flat": (-13.3, 0.0), "huge": (-1e38, 1e38)}.items():
        yield made(f"flax-gamma-{name}", writers.write_flax(folder / f"gamma-{name}", tensors, gamma))


CARD = """format = 1
name = "a"
kind = "vdm"
predicts = "eps"
time = "gamma"
input = "vp"
pixels = "centred"
levels = 256
image_shape = [3, 16, 16]
gamma_range = [-13.3, 5.0]
precision = "float32"
[network]
architecture = "vdm-unet"
embedding_dim = 32
n_blocks = 2
norm_groups = 8
dropout_prob = 0.1
"""
CARDS = {
    "huge-network": ("n_blocks = 2", "n_blocks = 65536"),
    "wide-network": ("embedding_dim = 32", "embedding_dim = 65536"),
    "count-of-2-to-the-60": ("n_blocks = 2", "n_blocks = 1152921504606846976"),
    "negative": ("n_blocks = 2", "n_blocks = -1"),
    "text": ("n_blocks = 2", 'n_blocks = "two"'),
    "unknown-option": ("n_blocks = 2", "n_blocks = 2\nevil = 1"),
    "another-architecture": ("vdm-unet", "resnet"),
    "another-kind": ('kind = "vdm"', 'kind = "gan"'),
    "newer-format": ("format = 1", "format = 99"),
    "no-format": ("format = 1\n", ""),
    "range-reversed": ("[-13.3, 5.0]", "[5.0, -13.3]"),
    "range-of-nan": ("[-13.3, 5.0]", "[nan, 5.0]"),
    "shape-of-one": ("[3, 16, 16]", "[3]"),
    "shape-of-zero": ("[3, 16, 16]", "[0, 16, 16]"),
    "levels-of-one": ("levels = 256", "levels = 1"),
    "levels-as-text": ("levels = 256", 'levels = "256"'),
    "pixels-unknown": ("centred", "middle"),
    "hash-of-another": ("format = 1", f'format = 1\nsha256 = "{"0" * 64}"'),
    "not-toml": ("format = 1", "format 1"),
    "deep": ("format = 1", "format = 1\nx = " + "[" * 5000 + "]" * 5000),
    "huge": ("format = 1", "format = 1\n# " + "x" * (1 << 22)),
    "no-text": ("format = 1", "\x00\x01"),
}


def own(folder):
    _, tensors = vdm_reference()

    def written(name, state=tensors, card=CARD, metadata=None):
        place = folder / name
        place.mkdir(parents=True)
        (place / "card.toml").write_text(card)
        save_file(
            {key: value.contiguous() for key, value in state.items()}, place / "model.safetensors", metadata
        )
        return place

    for name, state in faulty(tensors).items():
        yield made(f"own-{name}", written(name, state))
    for name, (old, new) in CARDS.items():
        assert old in CARD
        yield made(f"own-card-{name}", written(f"card-{name}", card=CARD.replace(old, new)))
    for name in ("card.toml", "model.safetensors"):
        place = written(f"without-{name}")
        (place / name).unlink()
        yield made(f"own-without-{name}", place)
    yield made("own-int-tensors", written("ints", {k: v.to(torch.int32) for k, v in tensors.items()}))
    yield made("own-double-tensors", written("doubles", {k: v.double() for k, v in tensors.items()}))
    yield made("own-honest", written("honest"), 0)
    yield made("own-honest-metadata", written("metadata", metadata={"format": "pt"}), 0)
    half = {key: value.half() for key, value in tensors.items()}
    yield made("own-honest-half", written("half", half, CARD.replace("float32", "float16")), 0)
