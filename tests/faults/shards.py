"""Indices of diffusers' sharded weights that name what is not there; zips that are cut off."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tests.checkpoints.public_files import SAID, checkpoint
from tests.faults.case import Case
from tests.faults.diffusers_folders import honest, texts

REFUSED = 4
INDEX = "diffusion_pytorch_model.safetensors.index.json"
FIRST, SECOND = (f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2))
ZIPS = ("openai/guided-cond", "torchcfm/icfm", "score-sde/like-vp", "lucidrains/v-sigmoid")


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every folder, and every zip that is cut off."""
    folder.mkdir(parents=True)
    whole = sharded(folder / "honest")
    made = [Case("shards/honest", whole, "expert", 0)]
    for name, change in {**indices(), **files()}.items():
        place = shutil.copytree(whole, folder / name)
        change(place / "unet")
        made.append(Case(f"shards/{name}", place, "expert", 0 if name.startswith("honest") else REFUSED))
    return made + list(cut_off(folder))


def sharded(folder):
    """A folder whose weights are in two files."""
    unet = honest(folder) / "unet"
    single = unet / "diffusion_pytorch_model.safetensors"
    tensors = load_file(single)
    single.unlink()
    half = len(tensors) // 2
    parts = {FIRST: dict(list(tensors.items())[:half]), SECOND: dict(list(tensors.items())[half:])}
    for name, part in parts.items():
        save_file(part, unet / name)
    write(unet, {key: name for name, part in parts.items() for key in part})
    return folder


def write(unet, places, **more):
    (unet / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places, **more}))


def places_of(unet):
    return json.loads((unet / INDEX).read_text())["weight_map"]


def indices():
    """What is done to the index."""

    def named(name):
        """The first file by another name."""
        return lambda unet: write(unet, {k: name if v == FIRST else v for k, v in places_of(unet).items()})

    def mapped(change):
        return lambda unet: write(unet, change(places_of(unet)))

    def text(content):
        return lambda unet: (unet / INDEX).write_bytes(content)

    return {
        **{f"index-{name}": text(content) for name, content in texts().items()},
        "map-as-list": lambda unet: write(unet, list(places_of(unet))),
        "map-of-none": mapped(lambda _: {}),
        "map-of-numbers": mapped(lambda found: dict.fromkeys(found, 1)),
        "map-of-lists": mapped(lambda found: {key: [value] for key, value in found.items()}),
        "map-of-nothing": mapped(lambda found: dict.fromkeys(found)),
        "map-of-two-kinds": mapped(lambda found: found | {next(iter(found)): 1}),
        "map-as-number": lambda unet: write(unet, 5),
        "map-that-climbs": named(f"../unet/{FIRST}"),
        "map-of-a-root": named("/etc/passwd"),
        "map-of-the-folder": named(".."),
        "map-of-no-name": named(""),
        "map-of-nul": named("a\0b.safetensors"),
        "map-of-half-a-letter": named("\ud800.safetensors"),
        "map-of-a-long-name": named("a" * 100_000),
        "map-of-itself": named(INDEX),
        "map-of-a-file-that-is-not-there": named("other.safetensors"),
        "map-of-101-files": mapped(lambda found: found | {f"a{i}": f"a{i}.safetensors" for i in range(101)}),
        "map-of-one-file": mapped(lambda found: dict.fromkeys(found, FIRST)),
        "map-turned-round": mapped(
            lambda found: {k: SECOND if v == FIRST else FIRST for k, v in found.items()}
        ),
        "map-that-lists-less": mapped(lambda found: dict(list(found.items())[1:])),
        "map-that-lists-more": mapped(lambda found: found | {"extra": FIRST}),
        "honest-with-more": lambda unet: write(unet, places_of(unet), evil="os.system"),
    }


def files():
    """What is done to a file of weights."""

    def saved(change):
        def apply(unet):
            tensors = load_file(unet / FIRST)
            save_file(change(tensors), unet / FIRST)
            write(
                unet,
                {k: v for k, v in places_of(unet).items() if v != FIRST}
                | dict.fromkeys(change(tensors), FIRST),
            )

        return apply

    def first(tensors, change):
        key = next(iter(tensors))
        return tensors | {key: change(tensors[key])}

    def instead(make):
        def apply(unet):
            (unet / FIRST).unlink()
            make(unet / FIRST)

        return apply

    return {
        "file-missing": lambda unet: (unet / FIRST).unlink(),
        "file-cut-off": lambda unet: (unet / FIRST).write_bytes((unet / FIRST).read_bytes()[:-5]),
        "file-empty": lambda unet: (unet / FIRST).write_bytes(b""),
        "file-of-a-pickle": lambda unet: (unet / FIRST).write_bytes(b"\x80\x04cos\nsystem\n."),
        "file-as-pipe": instead(os.mkfifo),
        "file-without-end": instead(lambda path: path.symlink_to("/dev/zero")),
        "file-as-folder": instead(lambda path: path.mkdir()),
        "file-of-nan": saved(lambda tensors: first(tensors, lambda value: value * torch.nan)),
        "file-of-another-shape": saved(lambda tensors: first(tensors, lambda value: value[:-1].contiguous())),
        "file-of-integers": saved(lambda tensors: {key: value.int() for key, value in tensors.items()}),
        "file-of-a-tensor-less": saved(lambda tensors: dict(list(tensors.items())[1:])),
        "file-of-a-tensor-more": saved(lambda tensors: tensors | {"extra": torch.ones(1)}),
        "honest-file-of-halves": saved(lambda tensors: {key: value.half() for key, value in tensors.items()}),
    }


def cut_off(folder):
    """Zips of the public families, cut where a part of them ends, and within."""
    for name in ZIPS:
        content = checkpoint(name, folder).read_bytes()
        entries = sorted(
            zipfile.ZipFile(io.BytesIO(content)).infolist(), key=lambda entry: entry.header_offset
        )
        middle, last = entries[len(entries) // 2], entries[-1]
        directory, end = content.index(b"PK\1\2"), content.rindex(b"PK\5\6")
        ends = {
            "second-member": entries[1].header_offset, "middle-member": middle.header_offset,
            "within-a-header": middle.header_offset + 20, "last-member": last.header_offset,
            "directory": directory,
            "within-the-directory": (directory + end) // 2, "end": end, "last-byte": len(content) - 1,
        }  # fmt: skip
        for where, at in ends.items():
            path = folder / f"{name.replace('/', '-')}-cut-off-{where}.pt"
            path.write_bytes(content[:at])
            yield Case(f"shards/{path.stem}", path, "expert", REFUSED, {"read_as": SAID[name]})
