"""What a checkpoint is, read without running anything in it.

Its gamma range in the four words of a threshold, the etas that a pair may switch at with it, what its network
is given and predicts, and where it comes from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from merged_diffusion import _core
from merged_diffusion.catalogue.entries import PairCard, known, pair_card, public
from merged_diffusion.errors import ExpertError
from merged_diffusion.experts.base import check_declaration
from merged_diffusion.experts.cards import Opened, located, open_expert, parted

if TYPE_CHECKING:
    from torch import nn

Facts = dict[str, Any]


def inspect_expert(
    source: str | Path, *, read_as: str | None = None, cache: str | Path | None = None
) -> Facts:
    """What `load_expert` would load: facts by name, fit for JSON. The weights are read and checked.

    Raises
    ------
    ExpertError
        It is not found, is code, or would be refused.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> facts = md.inspect_expert("bundled:digits-vdm")
    >>> facts["kind"], facts["parameters"], facts["gamma_range"]
    ('vdm', 162721, [-7.876, 5.0])
    """
    with _warnings() as said:
        bare, words = parted(source, read_as)
        opened = open_expert(readable(bare, cache), words)
    check_declaration(opened.expert)
    expert, low, high = opened.expert, *opened.expert.gamma_range
    net = cast("nn.Module", expert)
    facts = _stated(opened)
    entry = public("expert", source) if isinstance(source, str) else None
    if not facts["licence"] and entry is not None:
        facts["licence"] = entry.licence
    pairs = [pair_card(name) for name in known()["pair"]]
    return {
        "source": str(source),
        "file": str(opened.found.file),
        "format": opened.found.format if opened.held is None else opened.held.format,
        **facts,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "pixels": expert.pixels,
        "levels": expert.levels,
        "image_shape": list(expert.image_shape),
        "labels": expert.conditional,
        "gamma_range": [low, high],
        "range": {"low": _words(low, pairs), "high": _words(high, pairs)},
        "eta_limits": [_limits(low, high, facts["kind"], pair) for pair in pairs],
        "warnings": said,
    }


def readable(source: str | Path, cache: str | Path | None = None) -> Path:
    """Where the checkpoint lies; `ExpertError` for code, which says nothing unless it is run."""
    path = located(source, cache)
    if path is None:
        raise ExpertError(
            f"{source} is code: what it holds would show only by running it, and nothing is run here",
            hint="its declaration stands in that file; `merged-diffusion nll --expert` runs it, and says so",
            expert=str(source),
        )
    return path


def _stated(opened: Opened) -> Facts:
    """What the card says, or a diffusers folder's own tables."""
    if opened.held is not None:
        card = opened.held.card
        facts = {key: getattr(card, key) for key in ("name", "kind", "predicts", "time", "input", "data_std")}
        tables = {key: getattr(card, key) for key in ("training", "converted")}
        network, origin = dict(card.network), card.source
        sha256, precision, licence = opened.held.sha256, opened.held.precision, card.licence
        stated = card.sha256 if opened.found.format == "safetensors" else None
        classes = network.get("label_dim", 0)
    else:
        expert: Any = opened.expert
        facts = {key: getattr(expert, key) for key in ("name", "predicts", "time", "input")}
        facts |= {"kind": "diffusers", "data_std": None}
        tables = {"training": None, "converted": None}
        network = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in expert.net.unet.config.items()
            if not key.startswith("_") and value is not None
        }
        said = expert.provenance
        sha256, precision, licence, origin = said["sha256"], said["precision"], said["licence"], "diffusers"
        stated = None
        classes = network.get("num_class_embeds", 0)
    return facts | tables | {
        "network": network, "classes": classes, "precision": precision, "licence": licence, "sha256": sha256,
        "stated_sha256": stated, "origin": origin,
    }  # fmt: skip


def _words(gamma: float, pairs: list[PairCard]) -> Facts:
    """A gamma in the four words of a threshold; eta by pair, None outside of a pair's range."""
    return {
        "gamma": gamma,
        "edm_sigma": _core.edm_sigma(gamma),
        "logsnr": -gamma,
        "eta": {
            pair.name: _core.eta_of_gamma(gamma, pair.eta_range)
            if pair.eta_range[0] <= gamma <= pair.eta_range[1]
            else None
            for pair in pairs
        },
    }


def _limits(low: float, high: float, kind: str, pair: PairCard) -> Mapping[str, object]:
    """The largest eta with this likelihood expert and the least with this quality expert.

    None for a role that its kind does not take, or where it was not trained within the pair's range.
    """
    first, last = pair.eta_range
    meets = low < last and first < high
    highest = min(high, last) if meets and kind != "edm" else None
    lowest = max(low, first) if meets and kind != "vdm" else None
    return {
        "pair": pair.name,
        "gamma": [first, last],
        "likelihood_max": None if highest is None else _core.eta_of_gamma(highest, pair.eta_range),
        "quality_min": None if lowest is None else _core.eta_of_gamma(lowest, pair.eta_range),
    }


class _Listener(logging.Handler):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """The package's warnings while the block runs."""
    log, listener = logging.getLogger("merged_diffusion"), _Listener()
    log.addHandler(listener)
    try:
        yield listener.said
    finally:
        log.removeHandler(listener)
