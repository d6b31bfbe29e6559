"""Integrals of a cubic spline through values at unequal nodes, as weights of those values.

The spline is not-a-knot (de Boor 1978, chapter IV): its third derivative is continuous at the second and at
the last but one node. Below four nodes values are joined by straight lines.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def integral_weights(nodes: Floats, ends: Floats) -> Floats:
    """W [E, n]: W @ values [n] is the integral from the first node to ``ends`` [E], all within the nodes."""
    h = np.diff(nodes)
    bend = _second_derivatives(h) if len(nodes) > 3 else np.zeros((len(nodes), len(nodes)))
    one = np.eye(len(nodes))
    # Over a whole interval: h (f_0 + f_1)/2 - h^3 (f''_0 + f''_1)/24.
    whole = h[:, None] * (one[:-1] + one[1:]) / 2 - h[:, None] ** 3 * (bend[:-1] + bend[1:]) / 24
    before = np.vstack([np.zeros(len(nodes)), np.cumsum(whole, axis=0)])
    at = np.clip(np.searchsorted(nodes, ends, side="right") - 1, 0, len(h) - 1)
    width = h[at, None]
    u = (ends - nodes[at])[:, None] / width
    # f = (1-u) f_0 + u f_1 - h^2 [(2u - 3u^2 + u^3) f''_0 + (u - u^3) f''_1]/6, integrated from 0 to u.
    part = width * ((u - u**2 / 2) * one[at] + u**2 / 2 * one[at + 1])
    part -= width**3 / 6 * ((u**2 - u**3 + u**4 / 4) * bend[at] + (u**2 / 2 - u**4 / 4) * bend[at + 1])
    weights: Floats = before[at] + part
    return weights


def _second_derivatives(h: Floats) -> Floats:
    """Second derivatives at the nodes as weights [n, n] of the values."""
    n = len(h) + 1
    left: Floats = np.zeros((n, n))
    right: Floats = np.zeros((n, n))
    for i in range(1, n - 1):
        left[i, i - 1 : i + 2] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
        right[i, i - 1 : i + 2] = 6 / h[i - 1], -6 / h[i - 1] - 6 / h[i], 6 / h[i]
    left[0, :3] = h[1], -(h[0] + h[1]), h[0]
    left[-1, -3:] = h[-1], -(h[-2] + h[-1]), h[-2]
    return np.asarray(np.linalg.solve(left, right), dtype=np.float64)
