"""What does a further vector-Jacobian product of one forward call cost, in forward calls, by each way?

    python benches/python/product_ways.py [--network NAME]... [--rows 8] [--products 1,2,4,9]

Ways to the k numbers v^T J v of every row, J = d eps_hat/dz, and a row's eps_hat:

- ``retained``: k backward passes through one graph, what the solver does;
- ``batched``: `torch.autograd.grad` with ``is_grads_batched``, a backward pass vectorised over k;
- ``vjp``: `torch.func.vmap` over what `torch.func.vjp` returns;
- ``rows``: every row k times in the batch, one backward pass;
- ``jvp``: `torch.func.vmap` over forward-mode products, one forward pass that carries k tangents;
- ``rough``: a graph in bfloat16 (autocast) for the k colours, and one product in full whose correction makes
  the sum unbiased: with v_c the colours of a probe v and p_c any functions of v_c alone,
  v^T J v - sum over c of (v - v_c)^T p_c has the mean tr J, for v - v_c is independent of v_c and has mean 0.

Processor seconds, all ways in turn, the least of the rounds; memory above that before the call is measured in
a process of its own. The last columns: the greatest difference of a number from those of ``retained``, over
their mean size; and whether three rows say bit for bit the same among as many others.
"""

import argparse
import ctypes
import os
import time
from copy import copy
from dataclasses import replace
from pathlib import Path

import torch
from networks import EDM

import merged_diffusion as md
from merged_diffusion.ode.lattice import colours

SHAPE = (3, 32, 32)


def small_ddpmpp():
    """EDM's architecture at half of its width and depth, 8.8 M parameters, new weights."""
    network = {**EDM.network, "model_channels": 64, "num_blocks": 2}
    torch.manual_seed(0)
    return replace(EDM, name="ddpmpp", network=network).expert()


def full_ddpmpp():
    """EDM's CIFAR-10 network, new weights."""
    torch.manual_seed(0)
    return EDM.expert()


NETWORKS = {
    "scenes-vdm": lambda: md.load_expert("bundled:scenes-vdm"),
    "scenes-edm": lambda: md.load_expert("bundled:scenes-edm"),
    "ddpmpp": small_ddpmpp,
    "edm": full_ddpmpp,
}


class Case:
    """A network, rows at gammas from -10 to 3, and the k colours of a probe of each."""

    def __init__(self, name, n_rows, k):
        self.expert = NETWORKS[name]().eval().requires_grad_(False)
        random = torch.Generator().manual_seed(0)
        self.z = torch.randn(n_rows, *SHAPE, generator=random)
        self.gamma = torch.linspace(-10, 3, n_rows, dtype=torch.float64)
        self.probe = torch.sign(torch.randn(n_rows, *SHAPE, generator=random))
        own = torch.from_numpy(colours(k, SHAPE)).view(SHAPE) if k > 1 else torch.zeros(SHAPE)
        self.v = torch.stack([self.probe * (own == colour) for colour in range(k)])

    def among_others(self, rows):
        """As many rows, of which these are the same and the others turned round."""
        order = [*range(rows), *reversed(range(rows, len(self.z)))]
        other = copy(self)
        other.z, other.gamma, other.probe = self.z[order], self.gamma[order], self.probe[order]
        other.v = self.v[:, order]
        return other

    def graph(self):
        """z, and eps_hat with its graph."""
        z = self.z.clone().requires_grad_()
        return z, self.expert(z, self.gamma)


def squares(v, product):
    """v^T J v [k, B]."""
    return (v * product).flatten(2).sum(2, dtype=torch.float64)


def forward(case):
    with torch.no_grad():
        case.expert(case.z, case.gamma)


def pulled(eps_hat, z, v, *, keep):
    return torch.autograd.grad((eps_hat * v).sum(), z, retain_graph=keep)[0]


def retained(case):
    z, eps_hat = case.graph()
    last = len(case.v) - 1
    return squares(
        case.v, torch.stack([pulled(eps_hat, z, v, keep=at < last) for at, v in enumerate(case.v)])
    )


def batched(case):
    z, eps_hat = case.graph()
    return squares(case.v, torch.autograd.grad(eps_hat, z, case.v, is_grads_batched=True)[0])


def vjp(case):
    _, pull = torch.func.vjp(lambda z: case.expert(z, case.gamma), case.z)
    return squares(case.v, torch.func.vmap(pull)(case.v)[0])


def rows(case):
    k = len(case.v)
    z = case.z.repeat(k, 1, 1, 1).requires_grad_()
    product = pulled(case.expert(z, case.gamma.repeat(k)), z, case.v.flatten(0, 1), keep=False)
    return squares(case.v, product.view_as(case.v))


def jvp(case):
    def pushed(v):
        return torch.func.jvp(lambda z: case.expert(z, case.gamma), (case.z,), (v,))

    return squares(case.v, torch.func.vmap(pushed, out_dims=(None, 0))(case.v)[1])


def rough(case):
    z, eps_hat = case.graph()
    left = pulled(eps_hat, z, case.probe, keep=False)
    del eps_hat
    own = []
    with torch.autocast("cpu", torch.bfloat16):
        again, roughly = case.graph()
    last = len(case.v) - 1
    for at, v in enumerate(case.v):
        product = pulled(roughly, again, v, keep=at < last)
        own.append((v * product).flatten(1).sum(1, dtype=torch.float64))
        left = left - product
    # The correction by the colour of what it is multiplied by: each number is that of its colour, corrected.
    return torch.stack(own) + squares(case.v, left.expand_as(case.v))


WAYS = {
    "retained": retained,
    "batched": batched,
    "vjp": vjp,
    "rows": rows,
    "jvp": jvp,
    "rough": rough,
}


def seconds(call, *arguments):
    """Of the processor: others may use the machine."""
    begin = time.process_time()
    call(*arguments)
    return time.process_time() - begin


def least(calls, rounds):
    """The least seconds of each call by its name, all in turn in every round."""
    for call in calls.values():
        call()
    taken = [{name: seconds(call) for name, call in calls.items()} for _ in range(rounds)]
    return {name: min(one[name] for one in taken) for name in calls}


def peak(call, *arguments):
    """MiB above what is there before the call, of a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have left to the allocator
        before = _resident("VmRSS")
        with Path("/proc/self/clear_refs").open("w") as file:
            file.write("5")
        call(*arguments)
        os.write(writing, str(_resident("VmHWM") - before).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return float(pipe.read())


def _resident(key):
    with Path("/proc/self/status").open() as file:
        (line,) = (line for line in file if line.startswith(key))
    return int(line.split()[1]) / 1024


def table(network, n_rows, numbers, rounds, ways):
    cases = {k: Case(network, n_rows, k) for k in numbers}
    calls = {("forward", 0): lambda: forward(cases[numbers[0]])}
    for k, case in cases.items():
        calls |= {(way, k): lambda case=case, way=way: WAYS[way](case) for way in ways}
    spent = least(calls, rounds)
    one = spent["forward", 0]
    print(f"{network}, {n_rows} rows: a forward call {1000 * one / n_rows:.1f} ms a row", flush=True)
    first = numbers[0]
    for k, case in cases.items():
        expected = retained(case)
        for way in ways:
            found = WAYS[way](case)
            away = float((found - expected).abs().max() / expected.abs().mean())
            again = WAYS[way](case.among_others(3))
            is_own = torch.equal(again[:, :3], found[:, :3])
            further = ""
            if k > first:
                further = f"{(spent[way, k] - spent[way, first]) / one / (k - first):.2f}"
            print(
                f"  k = {k}  {way:<9} all {spent[way, k] / one:5.2f}  a further product {further:>5}  "
                f"memory {peak(WAYS[way], case):5.0f} MiB  differs {away:.0e}  a row's own {is_own}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--products", default="1,2,4,9", help="k, the least first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default=",".join(WAYS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    numbers = [int(k) for k in given.products.split(",")]
    for network in given.network or ["scenes-vdm", "scenes-edm", "ddpmpp"]:
        table(network, given.rows, numbers, given.rounds, given.ways.split(","))


if __name__ == "__main__":
    main()
