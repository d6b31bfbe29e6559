"""How long does a full-size public network take, and what share of it is not network arithmetic?

CIFAR-10's EDM (55.7 M parameters) and VDM (30.6 M), new weights, on a CPU: seconds of a forward call, and of
one with a vector-Jacobian product, as a step of the solver makes it; the share of either outside
convolutions, attention, normalisation and linear layers, by torch's profiler; the peak of memory.
"""

import argparse
import resource
import statistics
import time
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from merged_diffusion.experts.card import Card

EDM = Card(
    name="edm", kind="edm", predicts="x0", time="log_edm_sigma_over_4", input="edm", pixels="ends",
    levels=256, image_shape=(3, 32, 32), gamma_range=(-12.43, 8.764), data_std=0.5,
    network={
        "architecture": "ddpmpp", "model_channels": 128, "channel_mult": [2, 2, 2], "num_blocks": 4,
        "attn_resolutions": [16], "dropout": 0.13, "augment_dim": 9,
    },
)  # fmt: skip
VDM = Card(
    name="vdm", kind="vdm", predicts="eps", time="gamma", input="vp", pixels="centred", levels=256,
    image_shape=(3, 32, 32), gamma_range=(-13.3, 5.0),
    network={"architecture": "vdm-unet", "embedding_dim": 128, "n_blocks": 32},
)  # fmt: skip

# What an operation belongs to, by a part of its name; in a backward pass the name has "_backward" as well.
PARTS = {
    "convolution": "convolution",
    "scaled_dot_product": "attention",
    "flash_attention": "attention",
    "group_norm": "normalisation",
    "linear": "linear",
    "addmm": "linear",
    "aten::mm": "linear",
}


def part(event):
    """The part that the operation, or the one that called it, belongs to."""
    while event is not None:
        for name, found in PARTS.items():
            if name in event.name.lower():
                return found
        event = event.cpu_parent
    return "other"


def shares(call):
    """Part -> share of the time that operations themselves took."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        call()
    spent, others = Counter(), Counter()
    for event in recorded.events():
        if event.name.startswith("aten::") or "_backward" in event.name:
            spent[part(event)] += event.self_cpu_time_total
            if part(event) == "other":
                others[event.name] += event.self_cpu_time_total
    total = spent.total()
    return {name: time / total for name, time in spent.items()}, [
        f"{name} {100 * time / total:.1f} %" for name, time in others.most_common(4)
    ]


def seconds(call, repeats):
    """Median and range of the call's time."""
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return f"{statistics.median(taken):6.2f} s [{min(taken):.2f}, {max(taken):.2f}]"


def calls(expert, rows):
    """A forward call, and one with a vector-Jacobian product."""
    z = torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gamma = torch.linspace(-12, 4, rows, dtype=torch.float64)
    v = torch.sign(z)

    def forward():
        with torch.no_grad():
            expert(z, gamma)

    def with_product():
        state = z.clone().requires_grad_()
        torch.autograd.grad(expert(state, gamma), state, v)

    return {"forward": forward, "forward + VJP": with_product}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=["edm", "vdm"], action="append", help="default: both")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, {given.rows} rows")
    for card in (EDM, VDM):
        if given.network and card.name not in given.network:
            continue
        expert = card.expert().eval().requires_grad_(False)
        for name, call in calls(expert, given.rows).items():
            call()
            found, others = shares(call)
            line = ", ".join(f"{key} {100 * share:.1f} %" for key, share in sorted(found.items()))
            print(f"{card.name}  {name:<14} {seconds(call, given.repeats)}  {line}  ({'; '.join(others)})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak of resident memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
