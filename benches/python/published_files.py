"""How fast do published networks load from files of torch, in what memory, and where does a forward call go?

    OMP_NUM_THREADS=1 PYTHONPATH=python python benches/python/published_files.py FOLDER [NAME ...]

NAME is of the catalogue, of a family whose files are torch's (openai, torchcfm); default: three of them. The
file has the published name, shapes and container, and zeros, and is deleted again; a process of its own loads
it by its name alone. Shares of a forward call of two images are those of torch's profiler on one thread, of
newly drawn weights.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.profiler import profile

import merged_diffusion as md
from merged_diffusion.catalogue.entries import known
from merged_diffusion.experts.nets import by_name

USUAL = ("guided-imagenet64-cond", "improved-cifar10-uncond", "torchcfm-cifar10-icfm")
NAMED = {
    "convolution": ("conv",),
    "attention": ("scaled_dot", "flash_attention", "bmm", "softmax"),
    "normalisation": ("group_norm",),
    "linear": ("mm", "linear"),
}
ROWS = 2
MB = 1e6


def network(entry):
    return by_name.build(entry["network"], tuple(entry["image_shape"]))


def write(entry, path):
    with torch.device("meta"):
        state = network(entry).state_dict()
    zeros = {key: torch.zeros(value.shape) for key, value in state.items()}
    torch.save({"ema_model": zeros} if entry["format"] == "torchcfm" else zeros, path)


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
    size = path.stat().st_size
    n = sum(parameter.numel() for parameter in expert.parameters())
    print(
        f"{n / 1e6:.1f} M parameters, {size / MB:.0f} MB: {seconds:.2f} s of processor "
        f"({1 + 4 * size / 1e9:.2f} allowed), {peak / size:.2f} times the size in memory"
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
        path.parent.mkdir(parents=True, exist_ok=True)
        print(name, flush=True)
        if entry["format"] in ("openai", "torchcfm"):
            write(entry, path)
            try:
                subprocess.run([sys.executable, __file__, "--load", str(path)], check=True, env=os.environ)
            finally:
                path.unlink()
        shares(entry)


if __name__ == "__main__":
    main()
