"""Devices by name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``."""

from __future__ import annotations

import torch

from merged_diffusion.errors import UsageError


def resolve_device(name: str) -> tuple[str, str | None]:
    """The device for ``auto`` or a name, and torch's reason where ``auto`` could not take cuda."""
    if name == "auto":
        try:
            torch.zeros(1, device="cuda")
        except (RuntimeError, AssertionError) as error:
            return "cpu", str(error).splitlines()[0]
        return "cuda", None
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"device {name!r} is not usable here: {str(error).splitlines()[0]}",
            hint="use cpu; a run that was begun elsewhere goes on with --device cpu --allow-rebatch",
        ) from error
    return name, None
