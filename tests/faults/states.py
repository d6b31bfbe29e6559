"""Sound files whose tensors or tables are not those of a network, in every format; and honest ones."""

import hashlib
import json
import os
import shutil
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
    return [
        *edm(folder / "edm"),
        *addtt(folder / "addtt"),
        *flax(folder / "flax"),
        *own(folder / "own"),
        *turned(folder / "turned"),
        *places(folder / "places"),
    ]


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
    "laughs": "a: &a [x]\n"
    + "".join(f"k{i}: &k{i} [{', '.join(['*' + ('a' if i == 0 else f'k{i - 1}')] * 9)}]\n" for i in range(9)),
    "list-of-itself": "a: &a [*a]\n",
    "merge-of-itself": "a: &a\n  <<: *a\n",
    "merges": "<<: [{embedding_dim: 8}, {n_blocks: 2}, 7]\n",
    "name": "embedding_dim: !!python/name:os.system\n",
    "module": "embedding_dim: !!python/module:os\n",
    "apply-of-eval": "embedding_dim: !!python/object/apply:eval [\"open('{canary}', 'w')\"]\n",
    "tag-of-its-own": "embedding_dim: !evil 32\n",
    "binary": "embedding_dim: !!binary aGVsbG8=\n",
    "set": "embedding_dim: !!set {a, b}\n",
    "date": "embedding_dim: 2001-12-14t21:59:43.10-05:00\n",
    "digits-without-end": "embedding_dim: " + "9" * 60_000 + "\nn_blocks: 2\n",
    "sixties-without-end": "embedding_dim: 1" + ":59" * 15_000 + "\nn_blocks: 2\n",
    "keys-of-lists": "? [a, b]\n: 1\n",
    "keys-without-end": "".join(f"k{i}: 1\n" for i in range(6000)),
    "documents": "embedding_dim: 32\n---\nn_blocks: 2\n",
    "block-in-block": "".join(" " * i + "a:\n" for i in range(350)),
    "exponents-without-end": "embedding_dim: 32\nn_blocks: 2\nfourier_exponents: [" + "1, " * 20_000 + "1]\n",
    "exponents-as-number": "embedding_dim: 32\nn_blocks: 2\nfourier_exponents: 7\n",
    "gamma-of-infinity": "embedding_dim: 32\nn_blocks: 2\ngamma_max: .inf\n",
    "heads-of-none": "embedding_dim: 32\nn_blocks: 2\nn_attention_heads: 0\n",
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
    "number-without-end": ("n_blocks = 2", "n_blocks = " + "9" * 5000),
    "number-of-4000-digits": ("n_blocks = 2", "n_blocks = " + "9" * 4000),
    "list-without-end": ("n_blocks = 2", "n_blocks = 2\nfourier_exponents = [" + "1," * 300_000 + "]"),
    "taps-without-end": (
        '"vdm-unet"',
        '"ddpmpp"\nmodel_channels = 8\nresample_filter = [' + "1," * 100_000 + "1]",
    ),
    "lists-in-lists": ("n_blocks = 2", "n_blocks = 2\nfourier_exponents = [[[[5]]]]"),
    "table-for-a-number": ("n_blocks = 2", "n_blocks = { a = 1 }"),
    "tables-in-tables": (
        "n_blocks = 2",
        "n_blocks = 2\n" + "".join(f"[network{'.a' * i}]\n" for i in range(1, 400)),
    ),
    "keys-of-dots": ("n_blocks = 2", "n_blocks" + ".a" * 100_000 + " = 2"),
    "tables-of-dots": ("[network]", "[network" + ".a" * 100_000 + "]"),
    "inline-tables-of-dots": ("n_blocks = 2", "n_blocks = { a" + ".a" * 100_000 + " = 1 }"),
    "quoted-keys-of-dots": ("n_blocks = 2", '"="' + '.","' * 100_000 + " = 2"),
    "keys-of-dots-in-other-lines": ("n_blocks = 2", "a" + (".a" * 60 + '."\u2028"') * 2000 + " = 2"),
    "key-twice": ("n_blocks = 2", "n_blocks = 2\nn_blocks = 3"),
    "flag-for-a-number": ("n_blocks = 2", "n_blocks = true"),
    "groups-of-none": ("norm_groups = 8", "norm_groups = 0"),
    "heads-of-2-to-the-60": ("norm_groups = 8", "norm_groups = 8\nn_attention_heads = 1152921504606846976"),
    "shape-of-2-to-the-62": ("[3, 16, 16]", "[4611686018427387904, 16, 16]"),
    "range-of-infinity": ("[-13.3, 5.0]", "[-inf, inf]"),
    "range-of-text": ("[-13.3, 5.0]", '["-13.3", "5.0"]'),
    "name-as-number": ('name = "a"', "name = 5"),
    "hash-as-number": ("format = 1", "format = 1\nsha256 = 5"),
    "date": ("format = 1", "format = 1979-05-27"),
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
    for name, sha256, code in (("hash-known", None, REFUSED), ("hash-unknown", "", 0)):
        place = written(f"turned-{name}")
        weights = place / "model.safetensors"
        digest = hashlib.sha256(weights.read_bytes()).hexdigest() if sha256 is None else sha256
        if digest:
            (place / "card.toml").write_text(f'sha256 = "{digest}"\n{CARD}')
            yield made(f"own-honest-{name}", shutil.copytree(place, folder / name), 0)
        turn(weights, -9)
        yield made(f"own-turned-bit-of-a-weight-{name}", place, code)
    yield made("own-int-tensors", written("ints", {k: v.to(torch.int32) for k, v in tensors.items()}))
    yield made("own-double-tensors", written("doubles", {k: v.double() for k, v in tensors.items()}))
    yield made("own-honest", written("honest"), 0)
    yield made("own-honest-metadata", written("metadata", metadata={"format": "pt"}), 0)
    half = {key: value.half() for key, value in tensors.items()}
    yield made("own-honest-half", written("half", half, CARD.replace("float32", "float16")), 0)


def turn(path, at, mask=1):
    """One bit of a file turned over."""
    content = bytearray(path.read_bytes())
    content[at] ^= mask
    path.write_bytes(content)


def turned(folder):
    """A bit of a weight: seen where the format has a checksum, else the hash that is recorded differs."""
    folder.mkdir()
    config, tensors = edm_reference()
    path = writers.write_edm(folder / "edm.pkl", config, tensors)
    weight = tensors["model.map_layer0.weight"].numpy().tobytes()
    turn(path, path.read_bytes().index(weight) + 4)
    yield made("turned-bit-of-a-weight-edm-honest", path, 0)
    _, tensors = vdm_reference()
    weight = tensors["model.conv_in.weight"].numpy().tobytes()
    path = writers.write_addtt(folder / "addtt", *vdm_reference())
    turn(path, path.read_bytes().index(weight) + 4)
    yield made("turned-bit-of-a-weight-addtt", path)
    path = writers.write_flax(folder / "flax", tensors) / "ckpt-7.flax"
    turn(path, path.read_bytes().index(tensors["model.conv_in.bias"].numpy().tobytes()) + 4)
    yield made("turned-bit-of-a-weight-flax-honest", path, 0)


def places(folder):
    """What lies where a file should: pipes, devices, folders, links to none; each would wait or never end."""
    kinds = {
        "pipe": os.mkfifo,
        "zeros": lambda path: path.symlink_to("/dev/zero"),
        "folder": lambda path: path.mkdir(),
        "link-to-none": lambda path: path.symlink_to("nowhere"),
        "link-to-itself": lambda path: path.symlink_to(path.name),
    }
    _, tensors = vdm_reference()
    for kind, make in kinds.items():
        place = folder / kind
        addtt = writers.write_addtt(place / "addtt", *vdm_reference())
        flax = writers.write_flax(place / "flax", tensors)
        both = place / "config"
        shutil.copytree(addtt.parent, both)
        own, card = place / "own", place / "card"
        for target in (own, card):
            target.mkdir()
            (target / "card.toml").write_text(CARD)
            save_file({k: v.contiguous() for k, v in tensors.items()}, target / "model.safetensors")
        for name, path, load in (
            ("model", addtt, addtt.parent),
            ("config", both / "config.yaml", both),
            ("flax", flax / "ckpt-7.flax", flax),
            ("weights", own / "model.safetensors", own),
            ("card", card / "card.toml", card),
            ("file", place / "network.pkl", place / "network.pkl"),
        ):
            path.unlink(missing_ok=True)
            make(path)
            yield made(f"places-{kind}-for-{name}", load)
