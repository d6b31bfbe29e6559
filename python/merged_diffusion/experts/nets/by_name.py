"""The networks of public checkpoints by the ``architecture`` of a card's ``[network]`` table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from torch import nn

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.nets import ddpmpp, edm2_unet, lucid_unet, openai_unet

Build = Callable[[Mapping[str, object], tuple[int, int, int]], nn.Module]
BUILDERS: Final[Mapping[str, Build]] = {
    "ddpmpp": ddpmpp.build,
    "ncsnpp": ddpmpp.build,
    "openai": openai_unet.build,
    "adm": openai_unet.build,
    "edm2": edm2_unet.build,
    "lucidrains": lucid_unet.build,
}


def build(
    network: Mapping[str, object], shape: tuple[int, int, int], others: tuple[str, ...] = ()
) -> nn.Module:
    """The network of a table, for images of ``shape``; ``others`` are known, too, where a kind has more."""
    name = network.get("architecture")
    if not isinstance(name, str) or name not in BUILDERS:
        raise CheckpointError(
            f"[network] architecture = {name!r:.100} is no network of this kind",
            hint=f"known: {', '.join(map(repr, (*BUILDERS, *others)))}",
            key="architecture",
            found=name,
        )
    n_out = network.get("out_channels", shape[0])
    if n_out not in (shape[0], 2 * shape[0]):
        raise CheckpointError(
            f"[network] out_channels = {n_out!r:.40}, but images have {shape[0]} channels",
            hint=f"{shape[0]}, or {2 * shape[0]} with a learned variance",
            key="out_channels",
            found=n_out,
        )
    return BUILDERS[name](network, shape)


def label_range(network: nn.Module) -> tuple[int, int]:
    """The least and the greatest class of a network, -1 for none; (0, -1) where it takes no labels."""
    n_classes = int(getattr(network, "label_dim", 0))
    return int(getattr(network, "lowest_label", -1)) if n_classes else 0, n_classes - 1
