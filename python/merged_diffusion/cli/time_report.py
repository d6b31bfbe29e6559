"""Where the time went, for people: a line for each part, and the counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lines(profile: Mapping[str, Any] | None) -> list[str]:
    """A table of the parts and a line of counts; nothing without a profile.

    Where no network was called, that is all there is to say: shares of next to nothing tell nothing.
    """
    if profile is None:
        return []
    calls = profile["network_calls"]
    if not calls:
        return ["time        no network call"]
    *parts, (_, total) = profile["seconds"].items()
    outside = profile["outside_network"]
    share = "" if outside is None else f", {100 * outside:.1f} % of it outside of the network"
    found = [f"time        {total:.2f} s{share}"]
    found += [f"  {name:<11}{seconds:9.3f} s {_share(seconds, total)}" for name, seconds in parts]
    on_device = profile["device_seconds"]
    if on_device is not None:
        told = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in on_device.items())
        found.append(f"  on the device: {told}")
    useful, waits = 100 * profile["useful_share"], profile["waits_per_call"]
    return [
        *found,
        f"{calls} network calls, {useful:.1f} % of their rows useful; {profile['frames']} attempts,"
        f" {profile['waits']} waits ({waits:.2f} a call)",
    ]


def _share(seconds: float, total: float) -> str:
    return f"{100 * seconds / total:5.1f} %" if total else ""
