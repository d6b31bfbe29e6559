"""A YAML file of settings, read as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.files.reading import read_text
from merged_diffusion.files.weights import regular_size

MAX_CONFIG: Final = 1 << 16


def read_settings(path: Path) -> dict[str, object]:
    """The table that a ``config.yaml`` beside a checkpoint holds."""
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
