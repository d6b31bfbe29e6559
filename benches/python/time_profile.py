"""What share of a likelihood's time lies outside of the network, here and, estimated, on a GPU?

Three solves by adams. Of CIFAR-10's VDM (30.6 M parameters, new weights) over a short range: seconds of the
network and its vector-Jacobian product for a row. Of a Gaussian at 512 rows of 3 x 32 x 32: seconds of all
else for a row, by part, from `profile_time`. Of the same on the torch workspace, whose operations are those
of a GPU: how many there are outside of the network in an evaluation, and the bytes that they move.

The last line is an ESTIMATE, not a measurement: operations outside of the network take their bytes over the
bandwidth plus a launch each, none of it hidden; the driver takes what it took here; the network takes its
FLOPs, as torch counts them. Defaults are assumptions: float32 FLOP/s (TF32 is off) and bandwidth of an A100's
data sheet, half of either reached, 5 us a launch.
"""

import argparse
import os
import warnings
from contextlib import contextmanager
from dataclasses import replace

from merged_diffusion.ode.machine import Machine

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # as merged-diffusion sets it, before torch is loaded

import numpy as np
import torch
from networks import VDM
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from merged_diffusion import _core
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.likelihood import log_likelihood
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Adams, Probes
from merged_diffusion.ode.probes import make_directions
from merged_diffusion.ode.solve import solve

SHAPE, DIM = (3, 32, 32), 3 * 32 * 32
RANGE = (-13.3, 5.0)
SHORT = (1.0, 2.0)  # a handful of steps
OF_A_STEP = ("arithmetic", "driver", "waits", "probes")
OF_AN_IMAGE = ("starts", "records")
CPU = torch.device("cpu")


class Traffic(TorchDispatchMode):
    """Operations, and the bytes that they read and write; views move nothing."""

    def __init__(self):
        super().__init__()
        self.operations = self.bytes = 0
        self._is_paused = False

    @contextmanager
    def during(self, part):
        """Networks and products are left out."""
        self._is_paused = part in ("network", "products")
        yield
        self._is_paused = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if not self._is_paused and not is_view and "empty" not in func.name():
            self.operations += 1
            # What is broadcast is read once; an operation in place both reads and writes, `out` is written.
            given = {name: value for name, value in (kwargs or {}).items() if name != "out"}
            leaves = tree_leaves((args, given, found))
            self.bytes += sum(
                min(t.numel() * t.element_size(), t.untyped_storage().nbytes())
                for t in leaves
                if isinstance(t, torch.Tensor)
            )
        return found


def images(n):
    """Of any grey levels."""
    return np.random.default_rng(0).integers(0, 256, (n, *SHAPE)).astype(np.uint8)


def profile(expert, rows):
    """The time profile of as many images as rows, one of which is in each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of random networks nothing is to be learnt
        found = log_likelihood(
            expert, images(rows), dequantise="uniform", machine=Machine(batch_size=rows, profile_time=True)
        ).allowing_failed()
    return found.time_profile


def traffic(rows):
    """Operations of an evaluation, and bytes of a value of a row, outside of the network on a device."""
    items = Items(np.arange(rows, dtype=np.uint64))
    place = Place(CPU, torch.float32, rows, workspace="torch")
    made = make_directions(Probes(kind="fresh"), items, place, DIM)
    counted = Traffic()
    flow = ProbabilityFlow(gaussian(), SHAPE, made, items, during=counted.during)
    keys = np.arange(rows, dtype=np.uint64)
    start = np.random.default_rng(0).standard_normal((rows, DIM))
    with torch.no_grad(), counted:
        tally = solve(
            [[RANGE]], [flow], keys, lambda key: start[key], finished=lambda _: None,
            dim=DIM, place=place, solver=Adams(),
        )  # fmt: skip
    calls = sum(tally["calls"])
    return counted.operations / calls, counted.bytes / (calls * rows * DIM)


def gaussian():
    return GaussianExpert(SHAPE, variance=0.25, gamma_range=RANGE, name="gaussian")


def flops(expert):
    """Of a forward call and a vector-Jacobian product of one row."""
    state = torch.zeros(1, *SHAPE, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        expert(state, torch.zeros(1, dtype=torch.float64)).sum().backward()
    return counter.get_total_flops()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--network-rows", type=int, default=2, help="rows of the network's solve")
    parser.add_argument("--rows", type=int, default=512, help="rows of the others")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--flops", type=float, default=19.5e12, help="assumed: float32 FLOP/s of the device")
    parser.add_argument("--bandwidth", type=float, default=2.0e12, help="assumed: bytes/s of its memory")
    parser.add_argument("--reached", type=float, default=0.5, help="assumed: share of both that is reached")
    parser.add_argument("--launch", type=float, default=5e-6, help="assumed: seconds of a launch")
    given = parser.parse_args()
    if _core.DEBUG_BUILD:
        parser.error("a debug build of the extension says nothing: maturin develop --release")
    torch.set_num_threads(given.threads)
    _core.set_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads")

    expert = replace(VDM, gamma_range=SHORT).expert().eval().requires_grad_(False)
    of_network = profile(expert, given.network_rows)
    inside = sum(of_network.seconds[part] for part in ("network", "products")) / of_network.rows_called
    print(f"network: {inside:.3f} s a row and evaluation, over {of_network.network_calls} calls")

    rest = profile(gaussian(), given.rows)
    a_row = {part: rest.seconds[part] / rest.rows_called for part in OF_A_STEP}
    an_image = {part: rest.seconds[part] / given.rows for part in OF_AN_IMAGE}
    outside = sum(a_row.values()) + sum(an_image.values()) * given.rows / rest.useful_rows
    shown = [f"{part} {1e6 * seconds:.2f}" for part, seconds in a_row.items()]
    shown += [f"{part} {1e6 * seconds:.0f} an image" for part, seconds in an_image.items()]
    print(f"all else, {given.rows} x {DIM}: {1e6 * outside:.2f} us a row and evaluation ({', '.join(shown)})")
    share = outside / (inside + outside)
    print(f"share outside of the network on this CPU: {100 * share:.4f} %")
    print(f"waits: {rest.waits} in {rest.network_calls} network calls")

    operations, moved = traffic(given.rows)
    work, rows = flops(expert), given.rows
    print(f"on the torch workspace: {operations:.0f} operations an evaluation, {moved:.0f} bytes a value")
    print(f"the network: {work / 1e9:.0f} GFLOP a row and evaluation")
    memory = moved * rows * DIM / (given.bandwidth * given.reached)
    launches, driver = operations * given.launch, a_row["driver"] * rows
    computing = work * rows / (given.flops * given.reached)
    beside = memory + launches + driver
    print(
        f"ESTIMATE for a GPU of {given.flops:.3g} FLOP/s and {given.bandwidth:.3g} bytes/s, of which "
        f"{given.reached:g} is reached: {1e3 * beside:.2f} ms outside of the network (memory "
        f"{1e3 * memory:.2f}, launches {1e3 * launches:.2f}, driver {1e3 * driver:.2f}) beside "
        f"{1e3 * computing:.0f} ms in it: {100 * beside / (beside + computing):.3f} %"
    )


if __name__ == "__main__":
    main()
