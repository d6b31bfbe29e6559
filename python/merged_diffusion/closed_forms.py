"""Closed forms on this machine: what is known exactly, beside what comes out here.

Networks run on the device and in the dtype asked for; states are float64 always. Under a minute on one core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from merged_diffusion import _core, schedules
from merged_diffusion.data import load_data
from merged_diffusion.experts.gaussian import GaussianExpert, merged_log_density
from merged_diffusion.likelihood import log_density, log_likelihood
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import DTYPE, Machine
from merged_diffusion.ode.methods import Dopri5, Probes
from merged_diffusion.ode.probes import make_directions
from merged_diffusion.ode.solve import solve
from merged_diffusion.pairs import load_pair

GAMMA: Final = -13.3  # the paper's gamma_min
TAU: Final = 3.0186887716216786  # exp(6.65)/256; this and the next two from 30 digits
MASS: Final = 0.9974612881418365  # erf(tau/sqrt 2)
MEAN_LOG_Q: Final = 5.246283157798195  # nats per dimension
SHAPE: Final = (1, 4, 8)
ORDER: Final = 5.0  # of the solution that Dormand-Prince goes on with
# Image 0 of digits, its pair at the recommended eta, seed 0, float64 network, rtol = atol = 1e-10.
DIGIT_BITS: Final = 1.49988888

# Networks that round to float32 put 6e-8 into every eps_hat, and a step of relative error 1e-5 is right up to
# that; in float64 tolerances of 1e-8 are met.
TOLERANCES: Final = {"float32": 1e-5, "float64": 1e-8}
DIGIT_TOLERANCES: Final = {"float32": 1e-6, "float64": 1e-8}


@dataclass(frozen=True)
class Check:
    """A measured error beside the largest that is in order."""

    name: str
    error: float
    tolerance: float


def _solver(machine: Machine) -> Dopri5:
    tolerance = _tolerance(machine)
    return Dopri5(tolerance, tolerance)


def _tolerance(machine: Machine) -> float:
    return TOLERANCES[machine.dtype or DTYPE]


def run(machine: Machine = Machine()) -> Iterator[Check]:
    """The checks, one after another."""
    yield from _constants()
    yield _round_trip()
    for name, model in (("diagonal", _diagonal()), ("dense", _dense())):
        yield _gaussian(name, model, machine)
    yield _down_and_up(machine)
    yield _order(machine)
    yield _workspaces(machine)
    yield _neighbours(machine)
    yield _digit(machine)


def _constants() -> Iterator[Check]:
    tau = math.exp(-GAMMA / 2) / 256
    yield Check("tau at gamma = -13.3", abs(tau - TAU), 1e-14)
    yield Check("Z = erf(tau/sqrt 2)", abs(math.exp(_core.TruncatedNormal(tau).log_mass) - MASS), 1e-14)
    mean_log_q = -_core.dequantisation_constant("truncated-normal", GAMMA, 256, 1)
    yield Check("E[log q] per dimension", abs(mean_log_q - MEAN_LOG_Q), 1e-13)


def _round_trip() -> Check:
    eta = np.linspace(0, 1, 1001)
    gamma = _core.gamma_of_eta(eta, _core.MERGED_RANGE)
    error = np.abs(_core.eta_of_gamma(gamma, _core.MERGED_RANGE) - eta).max()
    return Check("eta to gamma and back", float(error), 4e-16)


def _merged(likelihood: GaussianExpert, quality: GaussianExpert) -> MergedModel:
    return MergedModel(likelihood, quality, Threshold.eta(0.4))


def _diagonal() -> MergedModel:
    spread = torch.linspace(0.05, 0.5, math.prod(SHAPE), dtype=torch.float64).view(SHAPE)
    return _merged(
        GaussianExpert(SHAPE, variance=spread, gamma_range=_core.VDM_RANGE),
        GaussianExpert(SHAPE, variance=spread.flip(2), gamma_range=_core.EDM_RANGE),
    )


def _dense() -> MergedModel:
    random = np.random.default_rng(0)
    dim = math.prod(SHAPE)
    factors = torch.from_numpy(random.standard_normal((2, dim, dim)))
    first, second = factors @ factors.mT / (4 * dim) + 0.02 * torch.eye(dim)
    return _merged(
        GaussianExpert(SHAPE, covariance=first, gamma_range=_core.VDM_RANGE),
        GaussianExpert(SHAPE, covariance=second, gamma_range=_core.EDM_RANGE),
    )


def _points(n: int = 4) -> npt.NDArray[np.float64]:
    return 0.5 * np.random.default_rng(1).standard_normal((n, *SHAPE))


def _gaussian(name: str, model: MergedModel, machine: Machine) -> Check:
    x = _points()
    found = log_density(model, x, solver=_solver(machine), probes=Probes(kind="exact"), machine=machine)
    z = torch.from_numpy(x * _core.alpha(model.gamma_range[0]))
    legs = [(leg.expert, leg.start, leg.end) for leg in model.legs()]
    exact = merged_log_density(z, [(e, a, b) for e, a, b in legs if isinstance(e, GaussianExpert)])
    error = np.abs(found - exact.numpy()).max() / (math.prod(SHAPE) * math.log(2))
    # The trace and the square add up the errors of d values and two legs; bits/dim divide by d again.
    return Check(f"merged {name} Gaussian, bits/dim", float(error), 10 * _tolerance(machine))


def _carry(
    model: MergedModel,
    ends: list[float],
    z: npt.NDArray[np.float64],
    machine: Machine,
    *,
    steps: int | None = None,
) -> npt.NDArray[np.float64]:
    """States z [N, d] taken through the ends, each leg by the expert in charge there."""
    n, dim = z.shape
    place = machine.here(lambda _: n)
    items, states = Items(np.arange(n, dtype=np.uint64)), np.full_like(z, math.nan)
    directions = make_directions(Probes(kind="fixed"), items, place, SHAPE)
    experts = [_in_charge(model, (a + b) / 2).to(place.device) for a, b in pairwise(ends)]
    solve(
        [list(pairwise(ends))],
        [ProbabilityFlow(expert, SHAPE, directions, items) for expert in experts],
        items.ids,
        lambda key: z[key],
        dim=dim,
        place=place,
        solver=_solver(machine),
        finished=lambda _outcome: None,
        steps=steps,
        keep=lambda key, state: states.__setitem__(key, state),
    )
    return states


def _in_charge(model: MergedModel, gamma: float) -> GaussianExpert:
    for leg in model.legs():
        if leg.start <= gamma <= leg.end and isinstance(leg.expert, GaussianExpert):
            return leg.expert
    raise AssertionError(f"no Gaussian expert at gamma = {gamma}")


def _down_and_up(machine: Machine) -> Check:
    model = _diagonal()
    up = [model.legs()[0].start, *(leg.end for leg in model.legs())]
    z = _points().reshape(4, -1)
    back = _carry(model, [*up, *up[-2::-1]], z, machine)
    # The flow from noise to data multiplies an error by at most 1, as these data have variances below 1.
    return Check("to noise and back again", float(np.abs(back - z).max()), 10 * _tolerance(machine))


def _order(machine: Machine) -> Check:
    """Order of convergence of the state, in float64, where steps of this size are far from rounding."""
    device = schedules.home(machine.here(lambda _: 1).device)
    model, machine = _diagonal(), Machine(str(device), "float64")
    expert, start, end = _in_charge(model, 0.0), -4.0, 4.0
    z = _points(1).reshape(1, -1)
    exact = expert.flow(torch.from_numpy(z.reshape(1, *SHAPE)).to(device), start, end)
    errors = [
        np.abs(_carry(model, [start, end], z, machine, steps=n) - exact.cpu().numpy().reshape(1, -1)).max()
        for n in (32, 64)
    ]
    observed = math.log2(errors[0] / errors[1])
    return Check("order 5 with constant steps", float(abs(observed - ORDER)), 0.2)


def _workspaces(machine: Machine) -> Check:
    """The host workspace of the CPU beside the torch workspace of the device."""
    x, solver = _points(), _solver(machine)
    host, device = replace(machine, device="cpu", workspace="host"), replace(machine, workspace="torch")
    on_host = log_density(_diagonal(), x, solver=solver, machine=host)
    on_device = log_density(_diagonal(), x, solver=solver, machine=device)
    error = np.abs(on_host - on_device).max() / (math.prod(SHAPE) * math.log(2))
    # Other order of sums; a float32 input may round to the other side, and a step size follow.
    return Check("host beside torch workspace, bits/dim", float(error), 10 * _tolerance(machine))


def _neighbours(machine: Machine) -> Check:
    data, model = load_data("digits"), load_pair("digits")
    solver, machine = Dopri5(1e-3, 1e-3), replace(machine, batch_size=16)
    beside = [
        log_likelihood(model, data.select(ids=ids), solver=solver, machine=machine).bits_per_dim[at]
        for ids, at in (((5, 6), 0), ((0, 12), 5))
    ]
    return Check("an image's bits beside other neighbours", float(abs(beside[0] - beside[1])), 0.0)


def _digit(machine: Machine) -> Check:
    data, model = load_data("digits").select(ids=(0, 1)), load_pair("digits")
    tolerance = DIGIT_TOLERANCES[machine.dtype or DTYPE]
    found = log_likelihood(model, data, solver=Dopri5(tolerance, tolerance), machine=machine).bits_per_dim[0]
    # On these networks discretisation errors of six images were up to 65 times the tolerance, and rounding to
    # float32 moves the steps, so that two machines differ by as much.
    return Check("image 0 of digits, bits/dim", float(abs(found - DIGIT_BITS)), 200 * tolerance)
