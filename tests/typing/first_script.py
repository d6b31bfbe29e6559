"""What a user's first script is to the type checker: mypy reads it under strict, nothing runs it."""

from collections.abc import Sequence
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, TensorDataset

import merged_diffusion as md
from merged_diffusion.quality import Assessment, Figure
from merged_diffusion.scores.differences import Difference
from merged_diffusion.scores.means import MeanAndErrors, MeansOfLikelihoods
from merged_diffusion.scores.record import Record

Floats = npt.NDArray[np.float64]

photos = md.load_data("photos").select(limit=16)
assert_type(photos, md.Data)
assert_type(photos[3], npt.NDArray[np.uint8])
assert_type(photos[:3], md.Data)
assert_type(photos.files, tuple[str, ...] | None)

likelihood = md.load_expert("bundled:photos-vdm")
quality: md.Expert = md.load_expert("bundled:photos-edm")
model = md.MergedModel(likelihood, quality, md.Threshold.eta(0.3))
assert_type(md.load_pair("photos", eta=0.3), md.MergedModel)

found = md.log_likelihood(model, photos, solver=md.Adams(tol=1e-3), probes=md.Probes(4), seed=1)
assert_type(found, md.Likelihood)
assert_type(found.bits_per_dim, Floats)
assert_type(found.mean, float | None)
assert_type(found.terms_nats["trace"], Floats)
assert_type(found[0], Record)
assert_type(found[np.flatnonzero(found.status == "ok")], md.Likelihood)
assert_type([record.bits_per_dim for record in found], list[float | None])
assert_type(md.paired_difference(found, md.log_likelihood(likelihood, photos)), Difference)
assert_type(found.summary(), MeansOfLikelihoods)
assert_type(found.summary().to_dict()["bits_per_dim"], npt.NDArray[Any])
assert_type(found.estimate(), MeanAndErrors | None)

loader = DataLoader(TensorDataset(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)))
assert_type(md.log_likelihood(likelihood, loader, labels="from-data"), md.Likelihood)
assert_type(md.log_density(likelihood, torch.zeros(4, 3, 8, 8)), Floats)
assert_type(md.variational_bound(model, photos), md.Bound)

samples = md.draw(model, range(4), sampler=md.Heun(steps=18))
assert_type(samples, md.Samples)
assert_type(samples[1:], md.Samples)
assert_type(md.sample(model, num=4, sampler="dpmpp-2m"), npt.NDArray[np.uint8])
assessed = md.assess(samples.images, "photos")
assert_type(assessed, Assessment)
assert_type(assessed.primary, Figure)
assert_type(assessed.to_dict()["value"], npt.NDArray[Any])

summary = md.evaluate("photos", eta=0.3, machine=md.Machine(device="cpu"), out="results/photos")
assert_type(summary.means.n, int)
assert_type(md.open_run("results/photos"), md.Run)
assert_type(md.load_scores("results/photos"), md.Likelihood | md.Bound)
table = md.sweep("photos", [0.1, 0.3])
assert_type(table[0].eta, float | None)
assert_type(table.to_dict()["eta"], npt.NDArray[Any])


def net(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A denoiser."""
    return z / (1 + 4 * sigma.view(-1, 1, 1, 1) ** 2)


mine: md.Expert = md.CallableExpert(
    net,
    predicts="x0",
    time="edm_sigma",
    input="edm",
    pixels="centred",
    levels=256,
    gamma_range=(-12.0, 8.0),
    image_shape=(3, 32, 32),
)

try:
    md.log_likelihood(mine, photos)
except md.SolveError as error:
    assert_type(error.fields.get("ids"), Sequence[int] | None)
    assert_type(error.fields["gamma"], float | None)
    assert_type(error.hint, str | None)

md.CallableExpert(net, predicts="noise")  # type: ignore[arg-type, call-arg]
md.log_likelihood(mine, [1, 2, 3])  # type: ignore[arg-type]
md.Adams(rtol=1e-5)  # type: ignore[call-arg]
