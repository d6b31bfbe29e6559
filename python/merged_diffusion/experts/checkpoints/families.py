"""What a file of ``torch.save`` holds that is of no known family, told by the names in it.

The file states no network, so it is not evaluated; but its owner is told what it is and which way leads on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from merged_diffusion.errors import UnsupportedCheckpointError
from merged_diffusion.files.tensors import View

CALLABLE: Final = (
    "make its network in Python, load these weights into it, and declare it by CallableExpert in a file that "
    "--expert file.py:name runs (examples/own_network.py)"
)
FOLDER: Final = (
    "save network and scheduler by save_pretrained, as FOLDER/unet and FOLDER/scheduler, and name FOLDER"
)
SNAPSHOT: Final = (
    "name the network-snapshot-*.pkl of its training instead, which states the network's options"
)
# The end of a name that only this network has.
FAMILIES: Final = (
    ("down_blocks.0.resnets.0.conv1.weight", "diffusers' U-Net", FOLDER),
    ("map_layer0.weight", "EDM's network", SNAPSHOT),
    ("blocks.0.attn.qkv.weight", "a transformer", CALLABLE),
)
N_SHOWN: Final = 8


def refused(value: Any, where: str) -> UnsupportedCheckpointError:
    """The error that says what ``value``, the content of a file of ``torch.save``, is."""
    names = [name for state in _states(value) for name in state]
    family = next((row for row in FAMILIES if any(name.endswith(row[0]) for name in names)), None)
    what = (
        "a file of torch.save, of no known family"
        if family is None
        else f"weights of {family[1]}, saved by torch"
    )
    return UnsupportedCheckpointError(
        f"{where}: {what}: it holds {_content(value, names)}",
        hint=CALLABLE if family is None else family[2],
        file=where,
        found=None if family is None else family[1],
    )


def _states(value: Any) -> Iterator[dict[str, View]]:
    """The state dicts in a value: itself, and what it holds."""
    for held in (value, *value.values()) if isinstance(value, dict) else ():
        if isinstance(held, dict):
            state = {
                key: view for key, view in held.items() if isinstance(key, str) and isinstance(view, View)
            }
            if state:
                yield state


def _content(value: Any, names: list[str]) -> str:
    if not isinstance(value, dict):
        return "one tensor" if isinstance(value, View) else f"a {type(value).__name__}"
    keys = [str(key)[:60] for key in value]
    more = f" and {len(keys) - N_SHOWN} more" if len(keys) > N_SHOWN else ""
    text = ", ".join(keys[:N_SHOWN]) + more
    return f"{text or 'nothing'} ({len(names)} tensors)"
