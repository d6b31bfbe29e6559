"""Whether an expert predicts the noise of the user's own images, as it is declared.

With z = alpha x + sigma eps and any number of images, the posterior mean eps_hat = E[eps | z] has

    E|eps - eps_hat|^2 / d = loss,        E<eps, eps_hat> / d = slope = 1 - loss,

at every gamma: what it explains of the noise is what it says of it, and its error holds nothing of z,
E<eps - eps_hat, z> = 0. Above gamma = 1 the data hardly matter to that. A declaration that is wrong (v taken
for eps, another clock, z in other units) breaks this, or predicts worse than eps_hat = 0, whose loss is 1.
A network is not a posterior mean, so the verdict is over the range, and only a warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import ExpertError, ExpertWarning
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import fenced
from merged_diffusion.experts.noised import IMAGES, Noised, Place, noised
from merged_diffusion.experts.other_words import others
from merged_diffusion.experts.shifted_clock import clock_warning

GAMMAS: Final = 8
FEW_GAMMAS: Final = 2  # that other words have to fit first; hardly any does
ROWS: Final = IMAGES
FAR: Final = 0.15  # between slope and 1 - loss; trained pairs: at most a third of it above the lowest quarter
FAR_GAMMAS: Final = 2
CLOSE: Final = 0.08  # what lets other words be tried, and what they must reach; trained pairs: 0.05
NOISY: Final = 1.0  # gamma above which sigma > 0.85
STANDARD_ERRORS: Final = 4.0
ALIKE: Final = 1e-3  # between losses of words that mean the same: the first one counts


@dataclass(frozen=True)
class Denoising:
    """Loss and slope per value [K] at ``gamma`` [K], and the loss less that of eps_hat = 0 over the range.

    ``left`` is <eps - eps_hat, z> / (sigma d), what the prediction leaves of z.
    """

    gamma: Tensor
    loss: Tensor
    slope: Tensor
    left: Tensor
    excess: float
    excess_se: float

    @property
    def mean_loss(self) -> float:
        """Over the range; the bound's integrand is loss d / 2 at every gamma, so all weigh the same."""
        return float(self.loss.mean())

    @property
    def is_useless(self) -> bool:
        """Whether eps_hat = 0 would have been a better prediction, beyond chance."""
        return not self.excess <= STANDARD_ERRORS * self.excess_se

    @property
    def gap(self) -> Tensor:
        """How far the prediction is from a posterior mean [K]; 0 in the lowest quarter: that is hard."""
        away = (self.slope - (1 - self.loss)).abs()
        away = torch.where(self.gamma > NOISY, torch.maximum(away, self.left.abs()), away)
        away[: len(away) // 4] = 0
        return away

    @property
    def far(self) -> Tensor:
        """The gammas where the gap is wide."""
        return self.gamma[~(self.gap <= FAR)]

    @property
    def fits(self) -> bool:
        """Whether the declaration may be right."""
        return not self.is_useless and len(self.far) < FAR_GAMMAS

    @property
    def fits_closely(self) -> bool:
        """Whether it is as near to a posterior mean as trained networks are."""
        return self.fits and bool((self.gap <= CLOSE).all())


@fenced()
def denoise(
    expert: Expert, place: Place, over: tuple[float, float], *, gammas: int = GAMMAS
) -> Denoising | None:
    """Loss and slope of an expert; None where they are not finite."""
    return _of(*_asked(expert, place, over, gammas))


def _asked(
    expert: Expert, place: Place, over: tuple[float, float], gammas: int = GAMMAS
) -> tuple[Noised, Tensor]:
    """Images with noise at gammas over a range, and what an expert makes of it."""
    low, high = over
    gamma = low + (high - low) * (torch.arange(gammas, dtype=torch.float64) + 0.5) / gammas
    look = noised(place, gamma)
    return look, look.answers(expert)


def _of(look: Noised, eps_hat: Tensor) -> Denoising | None:
    gamma, eps, gammas = look.gamma, look.eps, len(look.gamma)
    z = schedules.widened(look.z).cpu()
    sigma = schedules.per_image(schedules.sigma(gamma.repeat_interleave(look.rows)), eps)

    def by_gamma(values: Tensor) -> Tensor:
        return values.flatten(1).mean(1).view(gammas, ROWS)

    nothing = by_gamma(eps.square())
    loss = by_gamma((eps_hat - eps).square())
    slope = by_gamma(eps_hat * eps) / nothing
    rest = by_gamma((eps - eps_hat) * z / sigma)
    if not bool(loss.isfinite().all()):
        return None
    excess = (loss - nothing).mean(0)
    return Denoising(
        gamma,
        loss.mean(1),
        slope.mean(1),
        rest.mean(1),
        float(excess.mean()),
        float(excess.std()) / math.sqrt(ROWS),
    )


def warn_of_declaration(
    expert: Expert,
    place: Place,
    over: tuple[float, float],
    *,
    looks_at_clock: bool = True,
    about: str | None = None,
) -> bool:
    """Warn, by how much, where an expert does not denoise the images, with the line that would; whether.

    ``about`` is that of the warning; ``looks_at_clock``: whether a wrong clock is not yet told.
    A network that is not trained fits under none.
    """
    low, high = over
    easy = low + (high - low) / 4, high
    found = denoise(expert, place, over)
    if found is None:
        return False
    text = None if found.fits_closely else _other_words(expert, place, found, over, easy)
    if text is None and looks_at_clock:
        text = clock_warning(expert, place, over)
    if text is None:
        return False
    warn_caller(ExpertWarning(text, about))
    return True


def _other_words(
    expert: Expert,
    place: Place,
    found: Denoising,
    over: tuple[float, float],
    easy: tuple[float, float],
) -> str | None:
    """What is said of an expert that fits not at all, or less well than under other words."""
    best: tuple[float, str] | None = None
    for words, line, other in others(expert):
        try:
            tried = _of(*_asked(other, place, easy, FEW_GAMMAS))
            if tried is not None and tried.fits_closely:
                tried = _of(*_asked(other, place, over))
        except ExpertError:
            continue  # a network that refuses another clock has no more to say
        if tried is not None and tried.fits_closely and (best is None or tried.mean_loss < best[0] - ALIKE):
            best = tried.mean_loss, _advice(words, tried.mean_loss, line)
    if found.fits and (best is None or best[0] > found.mean_loss):
        return None
    return _text(expert, found, None if best is None else best[1])


def _advice(words: str, loss: float, line: str | None) -> str:
    if line == words:
        return f"write {line}, which would fit, with a loss of {loss:.3g}"
    return f"{words} would fit, with a loss of {loss:.3g}" + ("" if line is None else f"; write {line}")


def _text(expert: Expert, found: Denoising, advice: str | None) -> str:
    low, high = float(found.gamma[0]), float(found.gamma[-1])
    if found.fits:
        by = f"its mean denoising loss over gamma {low:.3g} to {high:.3g} is {found.mean_loss:.3g}"
    elif found.is_useless:
        by = (
            f"its mean denoising loss over gamma {low:.3g} to {high:.3g} is {found.mean_loss:.3g}, "
            "where eps_hat = 0 has 1"
        )
    else:
        at = ", ".join(f"{float(gamma):.3g}" for gamma in found.far)
        worst = int(found.gap.argmax())
        by = (
            f"at gamma = {float(found.gamma[worst]):.3g} its slope on the noise is "
            f"{float(found.slope[worst]):.3g}, 1 - loss {1 - float(found.loss[worst]):.3g}, and of z it "
            f"leaves {float(found.left[worst]):.3g}, where a denoiser has two equal numbers and 0 "
            f"(it is {FAR} off at {at})"
        )
    text = f"expert {expert.name} does not denoise these images{' as well as it might' * found.fits}: {by}; "
    if advice is not None:
        return text + advice
    return (
        f"{text}no other word of predicts, time, input or pixels fits either: is the network trained, for "
        "these images and this range?"
    )
