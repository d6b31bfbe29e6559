"""`draw`: ids in, images out, once every argument was found sound; and `sample`, the short way to a few."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.experts.base import Expert, check_labels
from merged_diffusion.merge import MergedModel, as_model
from merged_diffusion.methods import Method, StepControl
from merged_diffusion.ode.time_profile import Timekeeper
from merged_diffusion.samplers import Decode, Sampler, Sampling
from merged_diffusion.sampling.drawing import Drawing
from merged_diffusion.sampling.samples import Samples
from merged_diffusion.scores.machine import Machine, drawing_batch_size

Integers = npt.NDArray[np.int64]


def draw(
    model: Expert | MergedModel,
    ids: npt.ArrayLike,
    *,
    seed: int = 0,
    sampler: Sampler = "ode",
    steps: int | None = None,
    method: Method | None = None,
    step_control: StepControl | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    tol: float | None = None,
    h_max: float | None = None,
    clip: bool | None = None,
    decode: Decode = "argmax",
    s_churn: float | None = None,
    s_min: float | None = None,
    s_max: float | None = None,
    s_noise: float | None = None,
    labels: npt.ArrayLike | None = None,
    image_shape: tuple[int, int, int] | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    batch_coupled: bool = False,
    latents: bool = False,
    on_images: Callable[[Samples], object] | None = None,
    progress: bool = False,
    profile_time: bool = False,
) -> Samples:
    """Images of ``ids`` [N]; an id gives the same one beside any others, for one batch size and machine.

    Parameters
    ----------
    sampler
        ``ode``, the probability flow; ``ancestral``; ``heun``; ``dpmpp-2m``.
    steps
        Of a sampler on a fixed grid (ancestral 256, heun 18, dpmpp-2m 20).
    method, step_control, rtol, atol, tol, h_max
        Of the ODE's solver, as for `log_likelihood`. With ``shared`` steps an image depends on its block.
    clip
        ancestral: the clean image that a step predicts stays within [-1, 1].
    decode
        ``argmax`` takes the nearest grey level, ``sample`` draws one from p(v | z_min).
    s_churn, s_min, s_max, s_noise
        heun: noise that is added again on the way, between these noise levels sigma/alpha.
    labels
        int64 [N], for conditional experts.
    image_shape
        C, H, W, where the experts take any.
    batch_size
        Rows of every network call, unused ones padded: 16 on a CPU, 256 elsewhere, whatever N is.
    device, dtype
        Of the networks. States are float64.
    latents
        Whether z_min is returned too.
    on_images
        Called with images as they are made, each once. Its exceptions come out unchanged.
    profile_time
        ode: whether the result's ``time_profile`` says where the time went. No image depends on it.

    Raises
    ------
    UsageError, ExpertError
        An argument or an expert is not sound; nothing has been drawn then.
    SolveError
        Some images became non-finite; the others went to ``on_images``.
    """
    begin = time.perf_counter()
    how = Sampling(
        seed=seed,
        sampler=sampler,
        steps=steps,
        method=method,
        step_control=step_control,
        rtol=rtol,
        atol=atol,
        tol=tol,
        h_max=h_max,
        clip=clip,
        decode=decode,
        s_churn=s_churn,
        s_min=s_min,
        s_max=s_max,
        s_noise=s_noise,
    )
    if profile_time:
        how.check_profiled()
    model = modelled(model)
    numbers = _ids(ids)
    classes = _labels(labels, len(numbers), model)
    machine = Machine.of(device=device, dtype=dtype, batch_size=batch_size, usual=drawing_batch_size)
    keeper = Timekeeper(machine.device) if profile_time else None
    drawing = Drawing(model, how, machine, _shape(model, image_shape), keeper)
    found = drawing.run(
        numbers,
        classes,
        latents=latents,
        batch_coupled=batch_coupled,
        on_images=on_images,
        progress=progress,
    )
    if drawing.failures:
        raise _failed(drawing.failures)
    samples = Samples.joined(found).in_order(numbers)
    if keeper is None:
        return samples
    return replace(samples, time_profile=keeper.profile(time.perf_counter() - begin))


def sample(
    model: Expert | MergedModel,
    num: int = 16,
    seed: int = 0,
    ids: npt.ArrayLike | None = None,
    *,
    sampler: Sampler = "ode",
    steps: int | None = None,
    decode: Decode = "argmax",
    labels: npt.ArrayLike | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    progress: bool = False,
) -> npt.NDArray[np.uint8]:
    """Images [N, C, H, W] of the ids 0 to ``num`` - 1, or of ``ids``; `draw` has all options."""
    found = draw(
        model,
        np.arange(_count(num)) if ids is None else ids,
        seed=seed,
        sampler=sampler,
        steps=steps,
        decode=decode,
        labels=labels,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        progress=progress,
    )
    return found.images


def modelled(model: Expert | MergedModel) -> MergedModel:
    """A model; an EDM alone is a quality expert, as it is for a likelihood."""
    return as_model(model)


def _count(num: object) -> int:
    if not isinstance(num, Integral) or int(num) < 1:
        raise UsageError(f"num = {num} is no whole number from 1 up", hint="num = 16 draws sixteen")
    return int(num)


def _ids(ids: npt.ArrayLike) -> Integers:
    found = np.asarray(ids)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise UsageError(
            f"ids are {found.dtype} {list(found.shape)}, where one whole number an image is needed",
            hint="ids = range(16) draws sixteen",
        )
    if found.min() < 0 or len(np.unique(found)) < len(found):
        raise UsageError(
            f"ids hold {found.min()}" if found.min() < 0 else "ids name an image twice",
            hint="an id names an image's noise: one from 0 up for each",
        )
    return found.astype(np.int64)


def _labels(labels: npt.ArrayLike | None, n: int, model: MergedModel) -> Integers | None:
    if labels is None:
        return None
    found = np.asarray(labels)
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise UsageError(f"labels are {found.dtype} {list(found.shape)}, where {n} whole numbers are needed")
    classes = found.astype(np.int64)
    for leg in model.legs():
        check_labels(leg.expert, classes)
    return classes


def _shape(model: MergedModel, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    own = model.image_shape if given is None else given
    channels, height, width = own
    if channels is None or height is None or width is None:
        raise UsageError(
            f"the experts take images of any size ({list(own)})", hint="state image_shape = (C, H, W)"
        )
    if any(a not in (None, b) for a, b in zip(model.image_shape, own, strict=True)):
        raise UsageError(f"image_shape = {own}, but the experts model {model.image_shape}")
    return channels, height, width


def _failed(failures: dict[int, str]) -> SolveError:
    first, reason = next(iter(sorted(failures.items())))
    return SolveError(
        f"{len(failures)} images failed, the first of them id {first}: {reason}",
        hint="float64 networks, smaller steps or another threshold may help",
        ids=sorted(failures),
    )
