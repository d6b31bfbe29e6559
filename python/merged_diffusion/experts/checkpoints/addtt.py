"""addtt's ``results/<run>/model.pt`` with its ``config.yaml``: a zip of torch with the EMA's state dict.

The EMA's network is what evaluates; the training's own weights and the optimiser's state are never fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from torch import Tensor

from merged_diffusion import inert
from merged_diffusion.archives.limits import Limits
from merged_diffusion.archives.zips import SafeZip, open_zip
from merged_diffusion.errors import CheckpointError, UnsafeFileError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card, check_interval
from merged_diffusion.experts.checkpoints import tensors
from merged_diffusion.experts.checkpoints.families import refused
from merged_diffusion.experts.checkpoints.tensors import Storage, View, storage_id
from merged_diffusion.experts.weights import regular_size, unwrapped
from merged_diffusion.reading import read_text

log = logging.getLogger("merged_diffusion")

LIMITS: Final = Limits(members=20_000, total=1 << 34)
MAX_PICKLE: Final = 1 << 26
MAX_CONFIG: Final = 1 << 16
LITTLE: Final = b"little"
EMA: Final = "ema_model."
NETWORK: Final = "model."
OWN: Final = "embed_conditioning.0.weight"  # of VDM's U-Net, and of no other network
LICENCE: Final = "of whoever trained it; addtt's code is MIT"
# The network's own clock, whatever gammas were trained, unless the configuration says otherwise.
SCHEDULES: Final = ("fixed_linear", "learned_linear")


def read(path: Path, name: str) -> tuple[Card, dict[str, Tensor]]:
    """Card and state dict of the EMA network in a ``model.pt``; ``config.yaml`` lies beside it."""
    where = str(path)
    with _pickled(path) as (value, size):
        ema = unwrapped(_ema(value, where), where)
        # Only now: a file of another kind has no such neighbour, and is not to blame for that.
        config = _config(path.parent / "config.yaml")
        views = {
            key.removeprefix(EMA): view
            for key, view in ema.items()
            if key.startswith(EMA + NETWORK) and isinstance(view, View)
        }
        ends = _ends(ema, config, where)
        _warn_of_start(ema, where)
        return _card(config, ends, name, where), tensors.tensors_of(views, size, where)


def _ema(value: Any, where: str) -> dict[str, Any]:
    """The state of the EMA; what is no file of addtt's is called what it is."""
    held = value if isinstance(value, dict) else {}
    ours = [key for key, state in held.items() if isinstance(state, dict) and any(map(_is_of_vdm, state))]
    if not ours and not any(map(_is_of_vdm, held)):
        raise refused(value, where)
    if "ema" not in ours:
        raise UnsupportedCheckpointError(
            f"{where}: holds {sorted(map(str, held))[:8]}, but no state of an EMA called ema",
            hint="raw weights are never evaluated by accident; train.py writes step, model, opt and ema",
            file=where,
        )
    return {key: entry for key, entry in held["ema"].items() if isinstance(key, str)}


def _is_of_vdm(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(OWN)


@contextmanager
def _pickled(path: Path) -> Iterator[tuple[Any, int]]:
    """What ``torch.save`` wrote, with views whose numbers are fetched while the file is open; its size."""
    where = str(path)
    with open_zip(path, LIMITS) as archive:
        root = _root(archive, where)
        order = f"{root}/byteorder"
        if order in archive.names and (archive.size(order) != len(LITTLE) or archive.read(order) != LITTLE):
            raise CheckpointError(f"{where}: tensors of a big-endian machine are not read", file=where)
        if archive.size(f"{root}/data.pkl") > MAX_PICKLE:
            raise UnsafeFileError(f"{where}: a pickle of over {MAX_PICKLE} bytes", file=where)
        content = memoryview(archive.read(f"{root}/data.pkl"))

        def fetch(key: str, nbytes: int) -> memoryview:
            name = f"{root}/data/{key}"
            if archive.size(name) != nbytes:
                raise CheckpointError(
                    f"{where}: the member {name} has {archive.size(name)} bytes, declared as {nbytes}",
                    file=where,
                )
            return memoryview(archive.read(name))

        walked = inert.read(content, tensors.GLOBALS, where, persistent=_storages(fetch))
        try:
            yield walked.value, path.stat().st_size
        except KeyError as error:
            raise CheckpointError(f"{where}: the member {error} is missing", file=where) from error


def _storages(fetch: Callable[[str, int], memoryview]) -> Callable[[object], object]:
    """Storages by persistent id; the same one wherever the same key is named."""
    known: dict[str, Storage] = {}

    def storage(value: object) -> Storage:
        found = storage_id(value, fetch)
        known_before = known.setdefault(found.key, found)
        if (known_before.dtype, known_before.numel) != (found.dtype, found.numel):
            raise ValueError(f"the storage {found.key!r:.40} is described in two ways")
        return known_before

    return storage


def _root(archive: SafeZip, where: str) -> str:
    roots = {name.split("/")[0] for name in archive.names}
    if len(roots) == 1 and f"{(root := roots.pop())}/data.pkl" in archive.names:
        if any(name.startswith(f"{root}/code/") for name in archive.names):
            raise UnsupportedCheckpointError(
                f"{where}: TorchScript, a program with its weights, and nothing in a file is run",
                hint="in a file of your own: CallableExpert(torch.jit.load(FILE), ...), by file.py:name",
                file=where,
            )
        return root
    names = archive.names
    if names and all(name.endswith(".npy") for name in names):
        what, hint = "arrays of numpy (npz)", "images are named by --data, statistics by --ref"
    elif any(name.endswith((".safetensors", "model_index.json", "config.json")) for name in names):
        what, hint = "a packed folder", "unpack it, and name the folder"
    else:
        what, hint = "a zip without one folder that holds data.pkl", "it is no file of torch.save"
    raise UnsupportedCheckpointError(f"{where}: {what}, no checkpoint", hint=hint, file=where)


def _config(path: Path) -> dict[str, Any]:
    try:
        if regular_size(path) > MAX_CONFIG:
            raise UnsafeFileError(f"{path}: a configuration of over {MAX_CONFIG} bytes", file=str(path))
        config = yaml.load(read_text(path), Loader=_Plain)  # noqa: S506  (a SafeLoader)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file",
            hint="the training writes config.yaml beside model.pt; the network's sizes stand there alone",
            file=str(path),
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a readable YAML file ({str(error)[:200]})", file=str(path)
        ) from error
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise CheckpointError(f"{path}: no table of settings", file=str(path))
    return config


class _Plain(yaml.SafeLoader):
    """YAML without aliases, which a small file could make large of."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node; an alias is refused."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("an alias has no place in a table of settings")
        return super().compose_node(parent, index)


def _number(config: dict[str, Any], key: str, default: float | None, where: str) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise CheckpointError(
            f"{where}: config.yaml: {key} = {value!r:.60} is no number", key=key, file=where
        )
    return value


def _ends(ema: dict[str, Any], config: dict[str, Any], where: str) -> tuple[float, float]:
    """The ends of gamma: of the configuration, or learned."""
    low, high = (
        _number(config, key, default, where) for key, default in (("gamma_min", -13.3), ("gamma_max", 5.0))
    )
    schedule = config.get("noise_schedule", SCHEDULES[0])
    if schedule not in SCHEDULES:
        raise UnsupportedCheckpointError(
            f"{where}: config.yaml: noise_schedule = {schedule!r:.60} is none of {', '.join(SCHEDULES)}",
            file=where,
        )
    if schedule == "fixed_linear":
        return float(low), float(high)
    start, width = (ema.get(f"{EMA}gamma.{key}") for key in ("b", "w"))
    if not isinstance(start, View) or not isinstance(width, View) or start.numel != 1 or width.numel != 1:
        raise CheckpointError(
            f"{where}: noise_schedule = learned_linear, but the file has no {EMA}gamma.b and .w", file=where
        )
    first = float(start.tensor().reshape(()))
    return first, first + abs(float(width.tensor().reshape(())))


def _card(config: dict[str, Any], ends: tuple[float, float], name: str, where: str) -> Card:
    check_interval(*ends, where)

    def count(key: str, default: int | None = None) -> int:
        value = _number(config, key, default, where)
        if value != int(value):
            raise CheckpointError(f"{where}: config.yaml: {key} = {value} is not whole", key=key, file=where)
        return int(value)

    exponents = config.get("fourier_exponents", [5, 6]) if config.get("use_fourier_features", True) else []
    clock = [
        float(_number(config, key, end, where)) for key, end in (("gamma_min", -13.3), ("gamma_max", 5.0))
    ]
    return Card(
        name=name,
        kind="vdm",
        predicts="eps",
        time="gamma",
        input="vp",
        pixels="centred",
        levels=count("vocab_size", 256),
        image_shape=(count("input_channels", 3), 0, 0),
        gamma_range=ends,
        network={
            "architecture": "vdm-unet",
            "embedding_dim": count("embedding_dim"),
            "n_blocks": count("n_blocks"),
            "n_attention_heads": count("n_attention_heads", 1),
            "dropout_prob": _number(config, "dropout_prob", 0.1, where),
            "norm_groups": count("norm_groups", 32),
            "attention_everywhere": bool(config.get("attention_everywhere", False)),
            "fourier_exponents": exponents,
            "time_range": clock,
        },
        licence=LICENCE,
        source="addtt/variational-diffusion-models",
        precision="float32",
    )


def _warn_of_start(ema: dict[str, Any], where: str) -> None:
    initted = ema.get("initted")
    started = bool(initted.tensor().any()) if isinstance(initted, View) else initted
    if started is not None and not started:
        log.warning(
            "%s: its EMA has not begun (initted = 0): these are the raw weights of a training's start", where
        )
