"""What of an expert is accepted that the start check refuses otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accept:
    """Leave for what makes a number wrong unless the caller knows better.

    Parameters
    ----------
    batch_coupled
        Whether the images of a batch may depend on each other, as by batch normalisation.
    gradient
        The name of an expert whose gradient is warned of, not refused, where it is not the derivative of what
        the expert returns.
    precision
        Whether the precision asked for may cost more than 0.01 bits/dim, as far as a pilot can tell.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.Accept(gradient="mine")
    Accept(batch_coupled=False, gradient='mine', precision=False)
    """

    batch_coupled: bool = False
    gradient: str | None = None
    precision: bool = False
