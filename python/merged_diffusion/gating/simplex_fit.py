"""`fit_gate_of`: a gate of N experts, fitted to residual products on held-back images, chosen by exact runs.

With r_i = eps_i - eps at the same noise, the loss of a mixture is w^T S w, S_ij(gamma) = E r_i . r_j. The
shares are splines whose coefficients lie on the simplex (`merged_diffusion.simplex_gate`), so their best
choice is one quadratic programme,

    sum_b h_b |R_b w(gamma_b)|^2 -> min,  R_b^T R_b = S_b,  W_m >= 0,  sum_i W_mi = 1,

with h_b the width of a bin, which non-negative least squares solve (Lawson & Hanson 1974, an active-set
method). An expert has a share in those B-splines alone that act within its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from merged_diffusion.bound.losses import Losses
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.weights_hash import weights_sha256
from merged_diffusion.gating.fit import FIRM, SPACING
from merged_diffusion.gating.gate_choice import VISITS, chosen
from merged_diffusion.gating.simplex_products import measure
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import Convention, MergedModel, as_model
from merged_diffusion.roles import roles_of
from merged_diffusion.scores.defaults import EXACT, SEED
from merged_diffusion.scores.inputs import Images, as_data, as_labels, examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.usual_rows import scoring_rows
from merged_diffusion.simplex_gate import DEGREE, SimplexGate, basis
from merged_diffusion.soft_gate import Floats, digests

MOST: Final = 5  # experts: products and exact runs grow with their number
LEAST: Final = 0.02  # a share in a B-spline below that is none: a network is not called for it
FAMILY: Final = (1.0, 0.5, 0.0)  # a of W -> W^a / sum W^a; 0: as much of each as may be asked


def fit_gate_of(
    experts: Sequence[Expert],
    images: Images,
    *,
    exact: int = EXACT,
    options: Options | None = None,
    visits: int = VISITS,
    labels: npt.ArrayLike | None = None,
    convention: Convention = "exact",
    progress: bool = False,
    measuring: Measuring = HERE,
) -> SimplexGate:
    """The gate of two to five experts, in the order of rising noise, with the least bits/dim on ``images``.

    Parameters
    ----------
    images
        Those that it is fitted to and chosen on, which no expert has seen; it may not be scored on them.
    exact
        The fit and its relatives of flatter shares are scored on as many of the images by exact runs, and the
        best of them is the gate; 0: the fit is.
    options, visits, labels, convention, progress, measuring
        As of `fit_gate`.

    Raises
    ------
    UsageError
        One expert, or more than five; gammas that none of them knows.
    SolveError
        A residual is not finite.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> experts = [md.load_expert(f"bundled:digits-{name}") for name in ("vdm", "edm")]
    >>> held_back = md.load_data("digits", "train").select(limit=16)
    >>> gate = md.fit_gate_of(experts, held_back, exact=0)
    >>> model = md.MergedModel.of(experts, gate=gate)
    >>> model.legs()[0].role, model.legs()[-1].role
    ('likelihood', 'quality')
    """
    experts = tuple(experts)
    if not 2 <= len(experts) <= MOST:
        raise UsageError(f"{len(experts)} experts, where a gate shares among 2 to {MOST}")
    options = options or Options(seed=SEED)
    ranges = [expert.gamma_range for expert in experts]
    frame = MergedModel.of(experts, gate=flat(ranges), convention=convention)
    data = as_data(images, None, frame)
    classes = as_labels(labels, len(data), frame, data.labels)
    place = options.machine.here(partial(scoring_rows, len(data)))
    spaces = [as_model(expert, convention=convention).legs()[0].expert for expert in experts]
    losses = Losses.of(data, classes, options.seed, place)
    shape = data.images.shape[1:]
    asked = list(zip(spaces, ranges, strict=True))
    with prepared(asked, place, shape, labels=classes, examples=examples(data), accept=options.accept):
        by_image = measuring.by_image("products", data)
        edges, products, spent = measure(losses, spaces, ranges, visits, by_image)
    gate = agreed(measuring, "fit", fitted(edges, products, ranges))
    about: dict[str, object] = {
        "images": {"name": data.name, "split": data.split, "sha256": data.sha256, "n": len(data)},
        "fit_evaluations": spent,
    }
    if exact:
        gates = {f"a {a:g}": agreed(measuring, f"fit-{a:g}", flatter(gate, a, ranges)) for a in FAMILY}
        some = data.select(limit=min(exact, len(data)))
        own = None if classes is None else classes[np.isin(data.ids, some.ids)]
        models = {
            name: MergedModel.of(experts, gate=one, convention=convention) for name, one in gates.items()
        }
        scored = measuring.likelihoods(models, some, options, labels=own, progress=progress)
        best, about["family"] = chosen(scored, measuring)
        gate = gates[best]
    return replace(
        gate,
        seen=frozenset(digests(data.images)),
        experts=dict(zip(roles_of(len(experts)), map(weights_sha256, experts), strict=True)),
        about=about,
    )


def agreed(measuring: Measuring, name: str, gate: SimplexGate) -> SimplexGate:
    """The gate as whoever was first has it: machines may differ in the last bits of a least square."""
    rows = np.array(measuring.once(name, lambda: np.ravel(gate.coefficients).tolist()))
    return replace(gate, coefficients=tuple(map(tuple, rows.reshape(-1, gate.n_experts).tolist())))


def fitted(edges: Floats, products: Floats, ranges: Sequence[tuple[float, float]]) -> SimplexGate:
    """The gate with the least loss under products [B, N, N] in the bins of gamma between edges [B + 1]."""
    start, spacing, allowed = room(ranges)
    n_rows, n = allowed.shape
    place = np.flatnonzero(allowed.ravel())
    share = basis((edges[:-1] + edges[1:]) / 2, start, spacing, n_rows)
    blocks = []
    for at, given, width in zip(share, products, np.diff(edges), strict=True):
        members = np.flatnonzero(~np.isnan(np.diag(given)))
        if not len(members):
            continue
        values, axes = np.linalg.eigh(given[np.ix_(members, members)])
        root = np.sqrt(width * np.maximum(values, 0.0))[:, None] * axes.T
        block = np.zeros((len(members), n_rows, n))
        block[:, :, members] = at[None, :, None] * root[:, None, :]
        blocks.append(block.reshape(len(members), -1)[:, place])
    matrix = np.vstack(blocks)
    matrix /= np.abs(matrix).max()
    sums = np.zeros((n_rows, n_rows, n))
    sums[np.arange(n_rows), np.arange(n_rows)] = FIRM
    found, _ = nnls(
        np.vstack([matrix, sums.reshape(n_rows, -1)[:, place]]),
        np.append(np.zeros(len(matrix)), np.full(n_rows, FIRM)),
        maxiter=100 * len(place),
    )
    rows = np.zeros(n_rows * n)
    rows[place] = found
    return _gate(start, spacing, rows.reshape(n_rows, n))


def flatter(gate: SimplexGate, a: float, ranges: Sequence[tuple[float, float]]) -> SimplexGate:
    """Shares W^a by B-spline; a = 0: equal ones of all that may be asked there."""
    rows = np.array(gate.coefficients)
    if a == 0:
        return _gate(gate.start, gate.spacing, room(ranges)[2].astype(float))
    return _gate(gate.start, gate.spacing, np.where(rows > 0, rows**a, 0.0))


def flat(ranges: Sequence[tuple[float, float]]) -> SimplexGate:
    """The gate of equal shares of all that may be asked."""
    start, spacing, allowed = room(ranges)
    return _gate(start, spacing, allowed.astype(float))


def room(ranges: Sequence[tuple[float, float]]) -> tuple[float, float, npt.NDArray[np.bool_]]:
    """The first knot, their distance, and who may have a share in which B-spline [M, N].

    Knots lie where a second expert may first be asked and where a second one may last be, at least 1 apart.

    Raises
    ------
    UsageError
        Gammas that no B-spline's experts cover.
    """
    lows, highs = (np.sort([ends[side] for ends in ranges]) for side in (0, 1))
    low, high, first, last = lows[0], highs[-1], lows[1], highs[-2]
    if not first < last:
        raise UsageError(
            f"two of the experts have no gammas in common ({first:g} to {last:g})",
            hint="take experts whose ranges overlap",
        )
    spacing = (last - first) / max(int((last - first) / SPACING + 1e-9), 1)
    before, behind = (int(np.ceil(gap / spacing - 1e-9)) for gap in (first - low, high - last))
    start = first - before * spacing
    n_intervals = before + round((last - first) / spacing) + behind
    row = np.arange(n_intervals + DEGREE)
    begin = np.maximum(start + (row - DEGREE) * spacing, low) + 1e-9
    end = np.minimum(start + (row + 1) * spacing, high) - 1e-9
    allowed = np.array([(begin >= a) & (end <= b) for a, b in ranges]).T
    if not allowed.any(axis=1).all():
        at = begin[np.flatnonzero(~allowed.any(axis=1))[0]]
        raise UsageError(
            f"no single expert covers the {(DEGREE + 1) * spacing:.3g} of gamma from {at:g} on, over which "
            "smooth shares act",
            hint="experts whose ranges overlap by more, or thresholds",
        )
    return float(start), float(spacing), allowed


def _gate(start: float, spacing: float, rows: Floats) -> SimplexGate:
    """Of shares that nearly add up to 1, small ones taken away."""
    rows = rows / rows.sum(axis=1, keepdims=True)
    rows = np.where(rows < LEAST, 0.0, rows)
    rows /= rows.sum(axis=1, keepdims=True)
    end = start + (len(rows) - DEGREE) * spacing
    return SimplexGate(start, end, tuple(map(tuple, rows.tolist())))
