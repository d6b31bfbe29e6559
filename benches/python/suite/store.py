"""Measurements as files, one each: what is there is not measured again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from suite.setting import Found, Setting


class Store:
    """``folder/PROBLEM/SETTING.json``; what is written is whole or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def found(self, problem: str, setting: Setting, measure: Callable[[], Found]) -> Found:
        """What is recorded, else what is measured now."""
        record = self.kept(problem, setting.name, lambda: _record(setting, measure()))
        nats, evaluations = (np.array(record[key], dtype=float) for key in ("nats", "evaluations"))
        return Found(nats, evaluations, record["seconds"], record["network_seconds"], record["peak_bytes"])

    def kept(self, problem: str, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Any JSON object by name."""
        path = self._folder / problem / f"{name}.json"
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        begin = time.perf_counter()
        record = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(record))
        partial.replace(path)
        print(f"{problem:<9} {name:<44} {time.perf_counter() - begin:7.1f} s", file=sys.stderr, flush=True)
        return record


def _record(setting: Setting, found: Found) -> dict[str, Any]:
    arrays = {"nats": found.nats.tolist(), "evaluations": found.evaluations.tolist()}
    return asdict(setting) | asdict(found) | arrays
