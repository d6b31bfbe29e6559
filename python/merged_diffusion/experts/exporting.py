"""An expert as a file of another project's code: ``model.pt`` and ``config.yaml`` of addtt's.

addtt/variational-diffusion-models reads ``config.yaml`` as exactly its own fields, and ``model.pt`` as the
state of its VDM and of an `ema_pytorch.EMA` around it. Both networks in the file are the expert's, which is
one mean of a training; the optimiser's state is left out, so its ``eval.py`` takes the file and ``train.py
--resume`` does not.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import torch
import yaml
from torch import Tensor, nn

from merged_diffusion.errors import CheckpointError, StorageError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.cards import open_expert, parted, read_expert
from merged_diffusion.experts.inspection import readable
from merged_diffusion.experts.nets.vdm_unet import TIME_RANGE
from merged_diffusion.experts.vdm import VdmExpert

CONFIG: Final = "config.yaml"
# What addtt's code fixes, by our name, with the value that it has there.
FIXED: Final[Mapping[str, tuple[object, ...]]] = {
    "fourier_order": ("frequency",), "norm_eps": (1e-5,), "fourier_exponents": ([5, 6], [])
}  # fmt: skip
DEFAULTS: Final[Mapping[str, object]] = {
    "n_attention_heads": 1, "dropout_prob": 0.1, "norm_groups": 32, "attention_everywhere": False
}  # fmt: skip
# Of its training; evaluation asks none of it.
TRAINING: Final[Mapping[str, tuple[str, object]]] = {
    "batch_size": ("batch", 128), "lr": ("learning_rate", 2e-4), "weight_decay": ("weight_decay", 0.01)
}  # fmt: skip


def export_addtt(source: str | Path, out: str | Path, *, cache: str | Path | None = None) -> Card:
    """Write the VDM expert that ``source`` names as the new file ``out``, with ``config.yaml`` beside it.

    The card of the expert is returned. Both files appear after they were read back and compared.

    Raises
    ------
    CheckpointError
        An expert that addtt's code cannot compute: another kind, network, pixels or number of grey levels.
    StorageError
        One of both files is there already, or cannot be written.
    """
    target = Path(out).absolute()
    taken = [path for path in (target, target.with_name(CONFIG)) if os.path.lexists(path)]
    if taken or target.name == CONFIG:
        raise StorageError(
            f"{(taken or [target])[0]}: {'is there' if taken else f'the name of {CONFIG}'}",
            hint="name a file in a folder of its own", file=str((taken or [target])[0]),
        )  # fmt: skip
    bare, said = parted(source, None)
    opened = open_expert(readable(bare, cache), said)
    expert = opened.expert
    if opened.held is None or not isinstance(expert, VdmExpert):
        raise _refused(str(source), ["it is no likelihood expert of kind 'vdm'"])
    card = opened.held.card
    config, learned = _config(card, str(source))
    state = {**learned, **expert.state_dict()}
    draft = target.with_name(f".{secrets.token_hex(4)}.part")
    try:
        draft.mkdir(parents=True)
        _write(draft, target.name, state, config)
        _check_same(read_expert(draft / target.name), expert, str(source))
        for name in (CONFIG, target.name):
            (draft / name).replace(target.with_name(name))
    except OSError as error:
        raise StorageError(
            f"{target}: cannot be written ({error.strerror or error})",
            hint="free space, or name another folder; nothing was kept",
            file=str(target), errno=error.errno,
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return card


def _config(card: Card, source: str) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Addtt's fields for a card, and the parameters of its clock, if it has learned ends."""
    network = card.network
    wrong = [
        f"{key} = {found!r}, which is {' or '.join(map(repr, allowed))} there"
        for key, found, allowed in (
            ("architecture", network.get("architecture", "small"), ("vdm-unet",)),
            ("predicts", card.predicts, ("eps",)),
            ("input", card.input, ("vp",)),
            ("pixels", card.pixels, ("centred",)),
            ("levels", card.levels, (256,)),
            *((key, network.get(key, allowed[0]), allowed) for key, allowed in FIXED.items()),
        )
        if found not in allowed
    ]
    if wrong:
        raise _refused(source, wrong)
    low, high = (float(end) for end in cast("Sequence[float]", network.get("time_range", TIME_RANGE)))
    is_fixed = (low, high) == card.gamma_range
    training = card.training or {}
    config: dict[str, object] = {key: network.get(key, value) for key, value in DEFAULTS.items()}
    config |= {key: training.get(ours, value) for key, (ours, value) in TRAINING.items()}
    config |= {
        "embedding_dim": network["embedding_dim"],
        "n_blocks": network["n_blocks"],
        "input_channels": card.image_shape[0],
        "use_fourier_features": bool(network.get("fourier_exponents", [5, 6])),
        "noise_schedule": "fixed_linear" if is_fixed else "learned_linear",
        "gamma_min": low,
        "gamma_max": high,
        "antithetic_time_sampling": True,
        "clip_grad_norm": bool(training.get("gradient_norm", 1.0)),
    }
    first, last = card.gamma_range
    learned = {} if is_fixed else {"gamma.b": torch.tensor(first), "gamma.w": torch.tensor(last - first)}
    return config, learned


def _write(folder: Path, name: str, state: Mapping[str, Tensor], config: Mapping[str, object]) -> None:
    both = {f"{part}.{key}": value for part in ("online_model", "ema_model") for key, value in state.items()}
    ema = {"initted": torch.ones(1), "step": torch.zeros(1, dtype=torch.int64), **both}
    with (folder / name).open("wb") as file:
        torch.save({"step": 0, "model": dict(state), "ema": ema}, file)
        file.flush()
        os.fsync(file.fileno())
    (folder / CONFIG).write_text(yaml.safe_dump(dict(config)), encoding="utf-8")


def _check_same(found: object, expected: VdmExpert, source: str) -> None:
    there = cast(nn.Module, found).state_dict()
    different = [key for key, value in expected.state_dict().items() if not torch.equal(there[key], value)]
    ends = getattr(found, "gamma_range", (0.0, 0.0))
    # Learned ends are single precision in the file, as there.
    if any(abs(one - other) > 1e-5 for one, other in zip(ends, expected.gamma_range, strict=True)):
        different.append("gamma_range")
    if different:
        raise CheckpointError(
            f"{source}: {len(different)} entries changed by being written, the first {different[0]}",
            hint="the disk or the memory of this machine is at fault; nothing was kept",
            differences=different,
        )


def _refused(source: str, wrong: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{source} is no network that addtt's code computes: {'; '.join(wrong)}",
        hint="it has VDM's U-Net alone; `experts convert` writes any expert in this package's own format",
        differences=wrong,
    )
