"""How fast do published networks load from their files, in what memory, and where does a forward call go?

    OMP_NUM_THREADS=1 PYTHONPATH=python python benches/python/published_files.py FOLDER [NAME ...]

NAME is of the catalogue; default: one of each family of at most 300 M parameters. The
file has the published name, shapes and container, and zeros, and is deleted again; a process of its own loads
it by its name alone. Shares of a forward call of two images are those of torch's profiler on one thread, of
newly drawn weights.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.profiler import profile

import merged_diffusion as md
from merged_diffusion.catalogue.entries import known
from merged_diffusion.experts.checkpoints import dhariwal
from merged_diffusion.experts.nets import by_name, ddpmpp, vdm_unet

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from checkpoints import writers  # noqa: E402  the folder is on the path by now

USUAL = (
    *("edm-cifar10-32x32-uncond-ve", "edm-imagenet-64x64-cond-adm", "edm2-img64-s", "guided-imagenet64-cond"),
    *("improved-cifar10-uncond", "torchcfm-cifar10-icfm", "score-sde-cifar10-ve", "google-vdm-cifar10"),
)
LIST = ROOT / "tests/reference/parameters/state_dict_score_sde_cifar10_ncsnpp_continuous.tsv"
NAMED = {
    "convolution": ("conv",),
    "attention": ("scaled_dot", "flash_attention", "bmm", "softmax"),
    "normalisation": ("group_norm",),
    "linear": ("mm", "linear"),
}
ROWS = 2
MB = 1e6


def network(entry):
    if entry["network"]["architecture"] == "vdm-unet":
        return vdm_unet.build(entry["network"], entry["image_shape"][0])[0]
    return by_name.build(entry["network"], tuple(entry["image_shape"]))


def write(entry, path):
    """The file in its container, of zeros."""
    with torch.device("meta"):
        state = network(entry).state_dict()
    zeros = {key: torch.zeros(value.shape) for key, value in state.items()}
    if entry["format"] == "edm-pickle":
        write_snapshot(entry, zeros, path)
    elif entry["format"] == "flax-msgpack":
        raw = {"score_model": writers.flax_network(zeros)}
        moments = {"0": {"count": np.int32(1), "mu": raw, "nu": raw}}  # of Adam
        path.write_bytes(writers.packed(writers.flax_state(zeros) | {"params": raw, "opt_state": moments}))
    elif entry["format"] == "score_sde":
        rows = [line.split("\t") for line in LIST.read_text().splitlines()]
        public = {key: torch.zeros(json.loads(shape)) for key, shape, _ in rows}
        public["sigmas"] = torch.logspace(2, -2, 1000, dtype=torch.float64) / 2
        means = [value.clone() for key, value in public.items() if key not in ("sigmas", "all_modules.0.W")]
        model = {f"module.{key}": value for key, value in public.items()}
        torch.save({"model": model, "ema": {"shadow_params": means}}, path)
    else:
        torch.save({"ema_model": zeros} if entry["format"] == "torchcfm" else zeros, path)


def write_snapshot(entry, zeros, path):
    """A pickle of EDM, of EDM2 with its half precision, of ADM under EDM's names."""
    options, (channels, size, _) = dict(entry["network"]), entry["image_shape"]
    architecture, outer = options.pop("architecture"), "model"
    options = ddpmpp.NCSNPP | options if architecture == "ncsnpp" else options
    kind = {"ddpmpp": "SongUNet", "ncsnpp": "SongUNet", "edm2": "UNet", "openai": "DhariwalUNet"}[
        architecture
    ]
    if kind == "UNet":
        outer, zeros = "unet", {key: value.half() for key, value in zeros.items()}
    if kind == "DhariwalUNet":
        options, zeros = as_dhariwal(options, zeros, size)
    config = {
        "img_resolution": size, "img_channels": channels, "label_dim": options.pop("label_dim", 0),
        "use_fp16": False, "sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5, "model_type": kind,
    }  # fmt: skip
    tensors = {f"{outer}.{key}": value for key, value in zeros.items()}
    ema = writers.edm_object(config | options, tensors)
    ema._kind = "Precond" if kind == "UNet" else "EDMPrecond"
    with writers.edm_modules(), path.open("wb") as stream:
        pickle.dump({"ema": ema}, stream, protocol=4)


def as_dhariwal(options, zeros, size):
    """Options and tensors of OpenAI's network as DhariwalUNet's."""
    mults, n_blocks = options["channel_mult"], options["num_res_blocks"]
    names = dict(dhariwal._names(size, len(mults), n_blocks, options["attention_levels"], has_middle=True))
    back = {theirs: own for own, theirs in names.items()}
    tensors = {}
    for key, value in zeros.items():
        layer, part = key.rsplit(".", 1)
        wide = value[..., None] if layer.endswith((".qkv", ".proj_out")) and part == "weight" else value
        tensors[f"{back[layer]}.{part}"] = wide.T.contiguous() if layer == "label_emb" else wide
    kept = {"model_channels": options["model_channels"], "channel_mult": mults, "num_blocks": n_blocks}
    return kept | {"label_dim": options["label_dim"]}, tensors


def peak_memory():
    """Bytes, of Linux."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def load(path):
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is counted anew
    before = peak_memory()
    started = time.process_time()
    expert = md.load_expert(path)
    seconds = time.process_time() - started
    peak = peak_memory() - before
    n = sum(parameter.numel() for parameter in expert.parameters())
    single = 4 * n  # bytes of its float32
    print(
        f"{n / 1e6:.1f} M parameters, a file of {path.stat().st_size / MB:.0f} MB: {seconds:.2f} s of "
        f"processor ({1 + 4 * single / 1e9:.2f} are the limit), memory {peak / single:.2f} times its float32"
    )


def shares(entry):
    net = network(entry).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter.data, std=0.02)
    x = torch.randn(ROWS, *entry["image_shape"])
    labels = (torch.zeros(ROWS, dtype=torch.int64),) if getattr(net, "label_dim", 0) else ()
    arguments = (x, torch.full((ROWS,), 0.3, dtype=torch.float64), *labels)
    with torch.no_grad():
        net(*arguments)
        with profile() as profiled:
            net(*arguments)
    spent = dict.fromkeys([*NAMED, "outside"], 0.0)
    for row in profiled.key_averages():
        kind = next((kind for kind, words in NAMED.items() if any(w in row.key for w in words)), "outside")
        spent[kind] += row.self_cpu_time_total
    total = sum(spent.values())
    print(", ".join(f"{kind} {100 * value / total:.1f} %" for kind, value in spent.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", default=USUAL)
    parser.add_argument("--load", action="store_true", help="load the file that is named in place of FOLDER")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.load:
        load(given.folder)
        return
    for name in given.names:
        entry = known()["expert"][name]
        path = given.folder / Path(entry["at"]).name
        path = path / "ckpt-1.flax" if entry["format"] == "flax-msgpack" else path
        path.parent.mkdir(parents=True, exist_ok=True)
        print(name, flush=True)
        write(entry, path)
        try:
            subprocess.run([sys.executable, __file__, "--load", str(path)], check=True, env=os.environ)
        finally:
            path.unlink()
        shares(entry)


if __name__ == "__main__":
    main()
