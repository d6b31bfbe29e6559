"""`draw`: ids in, images out, once every argument was found sound; and `sample`, the short way to a few."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.base import Expert, takes_shape
from merged_diffusion.merge import MergedModel, as_model
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import check_kind
from merged_diffusion.ode.time_profile import Timekeeper
from merged_diffusion.samplers import DECODE, Decode, Name, Ode, Sampler, Sampling, as_sampler
from merged_diffusion.sampling.drawing import Drawing
from merged_diffusion.sampling.samples import Samples
from merged_diffusion.scores.defaults import DRAWN, SEED
from merged_diffusion.scores.inputs import as_labels
from merged_diffusion.scores.usual_rows import drawing_rows

Integers = npt.NDArray[np.int64]


def draw(
    model: Expert | MergedModel,
    ids: npt.ArrayLike,
    *,
    seed: int = SEED,
    sampler: Sampler | Name = Ode(),
    decode: Decode = DECODE,
    machine: Machine = Machine(),
    accept: Accept = Accept(),
    labels: npt.ArrayLike | None = None,
    image_shape: tuple[int, int, int] | None = None,
    latents: bool = False,
    on_images: Callable[[Samples], object] | None = None,
    progress: bool = False,
) -> Samples:
    """Images of ``ids`` [N]; an id gives the same one beside any others, for one batch size and machine.

    Parameters
    ----------
    sampler
        `Ode`, `Ancestral`, `Heun`, `Dpmpp2m`, `Dpmpp3m`, `UniPC`, `Deis` or `Ipndm`, or its name: ``ode``,
        ``ancestral``, ``heun``, ``dpmpp-2m``, ``dpmpp-3m``, ``unipc``, ``deis``, ``ipndm``.
    decode
        ``argmax`` takes the nearest grey level, ``sample`` draws one from p(v | z_min).
    machine
        Device, dtype, threads, rows of a call: 16 on a CPU, 256 elsewhere, unused ones padded.
    accept
        What of an expert is let pass that is refused otherwise.
    labels
        int64 [N], for conditional experts.
    image_shape
        C, H, W, where the experts take any.
    latents
        Whether z_min is returned too.
    on_images
        Called with images as they are made, each once. Its exceptions come out unchanged.

    Raises
    ------
    UsageError, ExpertError
        An argument or an expert is not sound; nothing has been drawn then.
    SolveError
        Some images became non-finite; the others went to ``on_images``.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> samples = md.draw(md.load_pair("digits"), range(4), sampler=md.Heun(steps=6))
    >>> samples
    Samples(4 images 1x8x8, 17 levels)
    >>> samples[0].shape
    (1, 8, 8)
    """
    begin = time.perf_counter()
    check_kind("machine", machine, Machine)
    check_kind("accept", accept, Accept)
    how = Sampling(as_sampler(sampler), seed, decode)
    if machine.profile_time:
        how.check_profiled()
    model = as_model(model)
    numbers = _ids(ids)
    classes = as_labels(labels, len(numbers), model)
    place = machine.here(drawing_rows)
    keeper = Timekeeper(place.device) if machine.profile_time else None
    drawing = Drawing(model, how, place, _shape(model, image_shape), keeper)
    found = drawing.run(
        numbers, classes, accept=accept, latents=latents, on_images=on_images, progress=progress
    )
    if drawing.failures:
        raise _failed(drawing.failures)
    samples = Samples.joined(found).in_order(numbers)
    if keeper is None:
        return samples
    return replace(samples, time_profile=keeper.profile(time.perf_counter() - begin))


def sample(
    model: Expert | MergedModel,
    num: int = DRAWN,
    seed: int = SEED,
    ids: npt.ArrayLike | None = None,
    *,
    sampler: Sampler | Name = Ode(),
    decode: Decode = DECODE,
    machine: Machine = Machine(),
    labels: npt.ArrayLike | None = None,
    progress: bool = False,
) -> npt.NDArray[np.uint8]:
    """Images [N, C, H, W] of the ids 0 to ``num`` - 1, or of ``ids``; `draw` has all options.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.sample(md.load_pair("digits"), num=4, sampler="heun").shape
    (4, 1, 8, 8)
    """
    found = draw(
        model,
        np.arange(_count(num)) if ids is None else ids,
        seed=seed,
        sampler=sampler,
        decode=decode,
        machine=machine,
        labels=labels,
        progress=progress,
    )
    return found.images


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


def _shape(model: MergedModel, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    own = model.image_shape if given is None else given
    channels, height, width = own
    if channels is None or height is None or width is None:
        raise UsageError(
            f"the experts take images of any size ({list(own)})", hint="state image_shape = (C, H, W)"
        )
    if not takes_shape(model.image_shape, own):
        raise UsageError(f"image_shape = {own}, but the experts model {model.image_shape}")
    return channels, height, width


def _failed(failures: dict[int, str]) -> SolveError:
    first, reason = next(iter(sorted(failures.items())))
    return SolveError(
        f"{len(failures)} images failed, the first of them id {first}: {reason}",
        hint="float64 networks, smaller steps or another threshold may help",
        ids=sorted(failures),
    )
