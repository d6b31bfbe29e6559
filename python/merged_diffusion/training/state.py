"""What training keeps between two interruptions: weights, their running means, Adam's moments, the step.

One safetensors file, replaced in one step: after a kill -9 it is the old or the new one. The same state is
the same bytes. It knows of no device and no number of processes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from merged_diffusion.errors import RunCorruptError
from merged_diffusion.files.reading import opened
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.kept import UNREADABLE
from merged_diffusion.runs.places import storing
from merged_diffusion.schedules import home, widened
from merged_diffusion.training.precision import loss_scaler
from merged_diffusion.training.processes import Team
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.same_training import (
    STEPS,
    Identity,
    is_raised,
    require_same,
    require_same_data,
)
from merged_diffusion.training.train_images import Integers
from merged_diffusion.training.weight_means import WeightMeans, rules

KEEP_LOSS: Final = 0.99  # of the running mean of the loss, at a step
MOMENTS: Final = ("exp_avg", "exp_avg_sq")


class TrainingState:
    """A network in training.

    ``means`` are the running means of its weights, ``loss`` that of the loss; ``rows`` are those of its
    report, ``raised_from`` the numbers of steps with which it was finished before. ``seen`` is a hash over
    the ids of all images so far, in order, ``ends`` whether a process was asked to end. ``extra`` are tensors
    that a law of noise levels has learnt.
    """

    def __init__(self, net: nn.Module, recipe: Recipe) -> None:
        self.net = net
        self.recipe = recipe
        self.step = 0
        self.updates = 0  # steps that fp16 did not skip
        self.loss = math.nan
        self.seen = ""
        self.ends = False
        self.rows: list[list[float]] = []
        self.raised_from: list[int] = []
        self.extra: dict[str, Tensor] = {}
        self.means = WeightMeans(net, rules(recipe))
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        device = self.parameters[0].device
        self.scaler = loss_scaler(recipe.precision, device)
        kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
        first, second = recipe.betas
        self.optimiser: torch.optim.Adam = kind(
            net.parameters(), betas=(first, second), eps=recipe.epsilon, weight_decay=recipe.weight_decay
        )

    @property
    def shown(self) -> dict[str, str]:
        """Loss and last look at the held-back images, for a bar."""
        last = {"held_back": f"{self.rows[-1][2]:.4f}"} if self.rows else {}
        return {"loss": f"{self.loss:.4f}"} | last

    def gradient(
        self, losses: Iterable[Tensor], team: Team, *, is_asked: bool = False
    ) -> tuple[float, float]:
        """The gradient of the sum of ``losses`` over all processes; that sum, and the gradient's norm.

        The gradient lies in the parameters then, cut to the recipe's ``gradient_norm``. Where ``is_asked`` to
        end is true in one process, ``ends`` is so in all.
        """
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float64, device=home(self.parameters[0].device))
        for loss in losses:
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += widened(loss.detach())
        found = [p.grad for p in self.parameters if p.grad is not None]
        asked = torch.full_like(total, float(is_asked))
        team.sum_([total, asked])
        team.sum_(found)
        self.scaler.unscale_(self.optimiser)
        if self.recipe.gradient_norm:
            norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.gradient_norm)
        else:
            norm = nn.utils.get_total_norm(found)
        loss, n_asked = torch.stack([total, asked]).tolist()
        self.ends = n_asked > 0
        return loss, float(norm)

    def update(self, total: float, ids: Integers) -> None:
        """One step of Adam down the gradient, then the running means."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        before = self.scaler.get_scale()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.updates += self.scaler.get_scale() >= before
        self.means.update(self.net, self.step, self.recipe.batch)
        self.step += 1
        self.loss = total if math.isnan(self.loss) else KEEP_LOSS * self.loss + (1 - KEEP_LOSS) * total
        self.seen = hashlib.sha256(self.seen.encode() + ids.astype("<i8").tobytes()).hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """All of them, by the names of a snapshot."""
        named = {f"net.{key}": value.detach() for key, value in self.net.named_parameters()}
        named |= self.means.tensors()
        for key, value in self.net.named_parameters():
            for moment in MOMENTS:
                if moment in self.optimiser.state[value]:
                    named[f"{moment}.{key}"] = self.optimiser.state[value][moment]
        return named | {f"extra.{key}": value for key, value in self.extra.items()}

    def weights(self, mean: str | None = None) -> dict[str, Tensor]:
        """The network's state under a mean of its weights, the first one by default; buffers are its own."""
        values = self.means.first if mean is None else self.means.of[mean]
        return {**self.net.state_dict(), **values}

    def words(self) -> dict[str, str]:
        """All that is no tensor, as text."""
        report = {"loss": self.loss, "rows": self.rows, "raised_from": self.raised_from}
        scale = {"scaler": json.dumps(self.scaler.state_dict())} if self.scaler.is_enabled() else {}
        return scale | {
            "step": str(self.step),
            "updates": str(self.updates),
            "seen": self.seen,
            "report": json.dumps(report, sort_keys=True),
        }

    def set_words(self, words: dict[str, str]) -> None:
        """Take what `words` gave; files of older versions lack some."""
        report = json.loads(words.get("report", "{}"))
        self.step = int(words["step"])
        self.updates = int(words.get("updates", self.step))
        self.seen = words.get("seen", "")
        self.loss = float(report.get("loss", math.nan))
        self.rows = report.get("rows", [])
        self.raised_from = report.get("raised_from", [])
        if "scaler" in words and self.scaler.is_enabled():
            self.scaler.load_state_dict(json.loads(words["scaler"]))

    def make_moments(self, names: Iterable[str]) -> None:
        """Room for Adam's moments of the parameters ``names``: those that have had a gradient by now."""
        parameters = dict(self.net.named_parameters())
        for name in names:
            value = parameters[name]
            moments = {moment: torch.zeros_like(value) for moment in MOMENTS}
            self.optimiser.state[value] = {"step": torch.tensor(float(self.updates)), **moments}

    def save(
        self, folder: Directory, file: str, recipe: Identity, data_sha256: str = "", labels_sha256: str = ""
    ) -> None:
        """Write all of it; ``recipe`` and the hashes of images and labels are compared when it is read."""
        metadata = self.words() | {"recipe": json.dumps(recipe, sort_keys=True), "data": data_sha256}
        metadata |= {"labels": labels_sha256} if labels_sha256 else {}
        tensors = {key: value.contiguous().cpu() for key, value in self.tensors().items()}
        folder.write(file, ordered(save(tensors, metadata)))

    def load(
        self, path: Path, recipe: Identity, data_sha256: str | None = None, labels_sha256: str = ""
    ) -> None:
        """Go on from what ``save`` wrote; refuse another recipe, but for more steps of a finished one."""
        try:
            with storing(path, "read"):
                opened(path).close()
            with storing(path, "read"), safetensors.safe_open(path, framework="pt") as file:
                words = dict(file.metadata())
                found = json.loads(words["recipe"])
                raised = is_raised(found, recipe) and int(words["step"]) == found[STEPS]
                if not raised:
                    require_same(found, recipe, path)
                require_same_data(words.get("data") or None, data_sha256, path)
                require_same_data(words.get("labels") or None, labels_sha256 or None, path, "labels")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.set_words(words)
            self.raised_from += [found[STEPS]] if raised else []
            heads = "extra."
            self.extra = {k.removeprefix(heads): v for k, v in tensors.items() if k.startswith(heads)}
            self.make_moments(_with_moments(tensors))
            with torch.no_grad():
                for name, value in self.tensors().items():
                    value.copy_(tensors[name])
        except (*UNREADABLE, safetensors.SafetensorError) as error:
            raise RunCorruptError(
                f"{path} cannot be read ({error})", hint="delete it to train from the start", file=str(path)
            ) from error

    def share(self, team: Team) -> None:
        """The state of the first process, for all."""
        if team.size == 1:
            return
        words, extra, moved = team.from_first(
            lambda: (self.words(), {k: v.cpu() for k, v in self.extra.items()}, _with_moments(self.tensors()))
        )
        if not team.is_first:
            self.set_words(words)
            self.make_moments(moved)
            self.extra = extra
        team.share_([value for key, value in self.tensors().items() if not key.startswith("extra.")])


def _with_moments(names: Iterable[str]) -> list[str]:
    """The parameters of which there are moments among the names of a snapshot, in order."""
    return sorted(n.partition(".")[2] for n in names if n.partition(".")[0] == MOMENTS[0])


def ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in one order, which its library leaves to chance."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
