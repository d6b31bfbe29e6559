"""What training keeps between two interruptions: weights, their running mean, AdamW's moments, the step.

One safetensors file, replaced in one step: after a kill -9 it is the old or the new one. The same state is
the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from merged_diffusion.errors import RunCorruptError, RunMismatchError
from merged_diffusion.files.reading import opened
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.kept import UNREADABLE
from merged_diffusion.runs.places import storing

STEPS: Final = "training.steps"
KEEP_LOSS: Final = 0.99  # of the running mean of the loss, at a step
WARM: Final = 10  # the running mean starts with weight (1 + n)/(10 + n)


class TrainingState:
    """A network in training.

    ``mean`` is the exponential running mean of its weights, ``loss`` that of the loss; ``rows`` are those of
    its report, ``raised_from`` the numbers of steps with which it was finished before.
    """

    def __init__(self, net: nn.Module, *, ema: float, weight_decay: float) -> None:
        self.net = net
        self.ema = ema
        self.step = 0
        self.loss = math.nan
        self.rows: list[list[float]] = []
        self.raised_from: list[int] = []
        self.mean = {k: v.detach().clone() for k, v in net.named_parameters()}
        self.optimiser = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.99), weight_decay=weight_decay)

    @property
    def shown(self) -> dict[str, str]:
        """Loss and last look at the held-back images, for a bar."""
        last = {"held_back": f"{self.rows[-1][2]:.4f}"} if self.rows else {}
        return {"loss": f"{self.loss:.4f}"} | last

    def descend(self, losses: Iterable[Tensor], learning_rate: float, gradient_norm: float) -> float:
        """One step of AdamW down the sum of ``losses``, which is returned, then the running means."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(self.net.parameters(), gradient_norm)
        self.optimiser.step()
        keep = min(self.ema, (1 + self.step) / (WARM + self.step))
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                self.mean[name].lerp_(value, 1 - keep)
        self.step += 1
        self.loss = total if math.isnan(self.loss) else KEEP_LOSS * self.loss + (1 - KEEP_LOSS) * total
        return total

    def save(self, folder: Directory, file: str, recipe: dict[str, object]) -> None:
        """Write all of it; ``recipe`` is compared when the file is read."""
        tensors: dict[str, Tensor] = {}
        for key, value in self.net.named_parameters():
            tensors[f"net.{key}"] = value.detach()
            tensors[f"mean.{key}"] = self.mean[key]
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}.{key}"] = self.optimiser.state[value][moment]
        report = {"loss": self.loss, "rows": self.rows, "raised_from": self.raised_from}
        metadata = {
            "step": str(self.step),
            "recipe": json.dumps(recipe, sort_keys=True),
            "report": json.dumps(report, sort_keys=True),
        }
        folder.write(file, ordered(save(tensors, metadata)))

    def load(self, path: Path, recipe: dict[str, object]) -> None:
        """Go on from what ``save`` wrote; refuse another recipe, but for more steps of a finished one."""
        try:
            with storing(path, "read"):
                opened(path).close()
            with storing(path, "read"), safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                found = json.loads(metadata["recipe"])
                report = json.loads(metadata.get("report", "{}"))
                if is_raised(found, recipe) and int(metadata["step"]) == found[STEPS]:
                    report["raised_from"] = [*report.get("raised_from", []), found[STEPS]]
                else:
                    require_same(found, recipe, path)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.step = int(metadata["step"])
            self.loss = float(report.get("loss", math.nan))
            self.rows = report.get("rows", [])
            self.raised_from = report.get("raised_from", [])
            with torch.no_grad():
                for name, value in self.net.named_parameters():
                    value.copy_(tensors[f"net.{name}"])
                    self.mean[name].copy_(tensors[f"mean.{name}"])
                    self.optimiser.state[value] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": tensors[f"exp_avg.{name}"],
                        "exp_avg_sq": tensors[f"exp_avg_sq.{name}"],
                    }
        except (*UNREADABLE, safetensors.SafetensorError) as error:
            raise RunCorruptError(
                f"{path} cannot be read ({error})", hint="delete it to train from the start", file=str(path)
            ) from error


def is_raised(found: Mapping[str, object], expected: Mapping[str, object]) -> bool:
    """Whether ``expected`` is the recipe ``found`` with more steps."""
    before, after = found.get(STEPS), expected.get(STEPS)
    if not isinstance(before, int) or not isinstance(after, int) or after <= before:
        return False
    return {**found, STEPS: None} == {**expected, STEPS: None}


def require_same(found: dict[str, object], expected: dict[str, object], path: Path) -> None:
    """Refuse to mix two recipes in one folder."""
    different = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    if different:
        rows = [f"{key}: {found.get(key)!r} there, {expected.get(key)!r} now" for key in different]
        raise RunMismatchError(
            f"{path} was made by another recipe ({'; '.join(rows)})",
            hint="use another --out, or delete the folder",
            differences=rows,
        )


def ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in one order, which its library leaves to chance."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
