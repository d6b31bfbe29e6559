"""How the catalogue of experts and the facts of a checkpoint look to people.

Texts of a file are shown without what a terminal would obey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Facts = Mapping[str, Any]
WIDTH: Final = 12
NAMES: Final = 34  # columns of a name in a list
MEANING: Final = {
    "velocity": "velocity F, eps_hat = alpha F + sigma z",
    "centred": "centred, 2(v + 1/2)/L - 1",
    "ends": "ends, 2v/(L - 1) - 1",
    "vp": "vp, z",
    "sp": "sp, z/(alpha + sigma)",
    "edm": "edm, z/alpha",
    "log_edm_sigma_over_4": "log_edm_sigma_over_4, gamma/8",
    "timestep": "timestep, of the scheduler's table",
}


def catalogue(experts: Sequence[Facts], pairs: Sequence[Facts], cache: str) -> Iterator[str]:
    """The lines of ``experts list``; ``cache`` is the folder that paths of public files are below."""
    yield "experts in the package"
    for row in experts:
        if row["bundled"]:
            yield _known(row, row["licence"])
    here = [row for row in experts if row["present"] and not row["bundled"]]
    if here:
        yield from ("", f"experts in the cache {cache}")
    for row in here:
        yield _known(row, row["licence"] or "licence not stated")
        yield f"      {row['at']}"
    absent = [row for row in experts if not row["present"]]
    for head, is_by_hand in (
        ("experts to fetch: merged-diffusion fetch NAME", False),
        (f"experts to put by hand into {cache}", True),
    ):
        rows = [row for row in absent if (row["by_hand"] is not None) == is_by_hand]
        if rows:
            yield from ("", head)
        yield from _families(rows)
    yield from ("", "pairs")
    for row in pairs:
        low, high = row["eta_range"]
        state = "ready" if row["present"] else "not complete"
        yield f"  {row['name']:<{NAMES}} {state:<13} eta {row['eta']:g}, in gamma {low:g} to {high:g}"
        yield f"    likelihood {row['likelihood']}, quality {row['quality']}"


def _families(rows: Sequence[Facts]) -> Iterator[str]:
    """Experts below what they have in common: family, licence and source."""
    told = None
    for row in rows:
        common = (row["family"], row["licence"], row["source"])
        if common != told:
            yield f"  {row['family']}, {row['source']}"
            yield f"  licence: {row['licence']}"
        told = common
        yield _known(row, _size(row))
        if row["by_hand"] is not None:
            yield f"      {row['by_hand']}"
            yield f"      to {row['at']}"


def _known(row: Facts, rest: str) -> str:
    shape = "x".join(map(str, row["image_shape"] or ()))
    return f"    {row['name']:<{NAMES}} {row['kind'] or '':<6}  {shape:<9}  {rest}".rstrip()


def _size(row: Facts) -> str:
    """Millions of parameters, where they are known, and whether it wants classes."""
    count = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:6.1f} M parameters"
    return f"{count:<19}  {'classes' if row['labels'] else ''}"


def lines(facts: Facts) -> Iterator[str]:
    """The lines of ``experts inspect``."""
    for name, value in _head(facts):
        yield inert(f"{name:<{WIDTH}} {value}")
    yield ""
    yield from _table(_range(facts))
    yield ""
    yield from _table(_limits(facts["eta_limits"]))


def inert(text: str) -> str:
    """``text`` with escapes for control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _head(facts: Facts) -> Iterator[tuple[str, str]]:
    shape = " x ".join("any" if size is None else str(size) for size in facts["image_shape"])
    yield facts["name"], f"{facts['kind']}, {facts['parameters']:,} parameters, {facts['precision']}"
    yield "file", f"{facts['file']} ({facts['format']})"
    yield "sha256", facts["sha256"]
    yield "release", _release(facts["release"])
    if facts["converted"] is not None:
        origin = facts["converted"]
        yield "converted", ", ".join(f"{key} {_worded(value)}" for key, value in origin.items())
    if facts["training"] is not None:
        yield "trained", ", ".join(f"{key} {_worded(value)}" for key, value in facts["training"].items())
    yield "source", facts["origin"] or "not stated"
    yield "licence", facts["licence"] or "not stated"
    yield "network", ", ".join(f"{key} {_worded(value)}" for key, value in facts["network"].items())
    std = "" if facts["data_std"] is None else f", data_std {facts['data_std']:g}"
    yield "predicts", f"{MEANING.get(facts['predicts'], facts['predicts'])}{std}"
    yield "time", str(MEANING.get(facts["time"], facts["time"]))
    yield "input", str(MEANING.get(facts["input"], facts["input"]))
    yield "pixels", MEANING[facts["pixels"]]
    yield "images", f"{shape}, {facts['levels']} levels"
    yield "labels", _labels(facts)


def _release(found: Facts) -> str:
    """How the file stands to the hashes that are known."""
    if found["state"] == "card":
        return "the weights that the card states"
    if found["state"] == "same":
        return f"{found['name']} as it was published or first fetched"
    if found["state"] == "other":
        return f"not {found['name']} as it was published or first fetched, sha256 {found['sha256']}"
    return "no hash is known to compare it with"


def _labels(facts: Facts) -> str:
    if not facts["labels"]:
        return "none"
    classes = f" of {facts['classes']}" if facts["classes"] else ""
    return f"a class{classes} with every image (--labels)"


def _range(facts: Facts) -> list[list[str]]:
    """The gamma range in all words of a threshold; eta where a pair's range contains it."""
    ends = facts["range"]
    pairs = list(ends["low"]["eta"])
    rows = [["range", "gamma", "edm_sigma", "log SNR", *(f"eta of {pair}" for pair in pairs)]]
    for name, end in ends.items():
        etas = [_eta(end["eta"][pair], "outside") for pair in pairs]
        rows.append([name, f"{end['gamma']:.6g}", f"{end['edm_sigma']:.3g}", f"{end['logsnr']:.6g}", *etas])
    return rows


def _limits(limits: Sequence[Facts]) -> list[list[str]]:
    """Where a threshold may lie with this expert in either role."""
    rows = [["eta limits", "eta 0 to 1 is gamma", "as likelihood expert", "as quality expert"]]
    for row in limits:
        low, high = row["gamma"]
        highest, lowest = _eta(row["likelihood_max"], "-"), _eta(row["quality_min"], "-")
        rows.append(
            [
                row["pair"],
                f"{low:g} to {high:g}",
                highest if highest == "-" else f"up to {highest}",
                lowest if lowest == "-" else f"from {lowest}",
            ]
        )
    return rows


def _eta(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.6g}"


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _worded(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
