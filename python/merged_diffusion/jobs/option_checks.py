"""Single words of an evaluation, checked: what was given, what is allowed, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final, cast

from merged_diffusion.errors import UsageError

ALL: Final = "all"
AUTO: Final = "auto"
OF_A_PAIR: Final = ("likelihood_expert", "quality_expert", "pair")
# What the mean over a set excludes, and why.
NOT_BESIDE_MEAN_OF: Final = {
    "compare": (
        "what the features tell is alike for both models and gone from their difference",
        "compare them on --limit images without --mean-of: they are paired",
    ),
    "ids": ("images at given positions are no random choice", "use --limit N, a random choice of N"),
    "allow_failed": (
        "the images that do not fail are no random choice",
        "leave one of them out: without --allow-failed a failure leaves no mean",
    ),
}


def option_name(name: str) -> str:
    """As it is written on the command line."""
    return "--" + name.replace("_", "-")


def at_least_one(name: str, value: int | None) -> None:
    """Refuse a count below 1."""
    if value is not None and value < 1:
        raise UsageError(
            f"{option_name(name)} {value} lies below 1", hint="use a number from 1 up", key=name, found=value
        )


def as_probes(word: object) -> dict[str, object]:
    """``probes`` and ``probe_error`` of a word that is a number or ``auto:E``."""
    if not isinstance(word, str):
        return {} if word is None else {"probes": word}
    kind, _, wish = word.partition(":")
    try:
        if kind == AUTO:
            return {"probes": None, "probe_error": float(wish)}
        return {"probes": int(word)}
    except ValueError:
        raise UsageError(
            f"--probes {word} is neither a number nor {AUTO}:E",
            hint=f"{AUTO}:0.01 takes as many as leave nine of ten images an error below 0.01 bits/dim",
        ) from None


def as_gammas(value: Sequence[float] | str | None) -> tuple[float, ...] | None:
    """Thresholds of several experts as a tuple of numbers."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            raise TypeError
        return tuple(float(gamma) for gamma in value)
    except (TypeError, ValueError):
        raise UsageError(
            f"gammas = {value!r} are no numbers", hint="a tuple of one fewer than experts: (-6.5, -1.0)"
        ) from None


def check_no_tolerance(said: Mapping[str, object]) -> None:
    """Refuse a tolerance beside the wish that chooses one."""
    given = next((name for name in ("tol", "rtol", "atol") if name in said), None)
    if given is not None or said.get("method") == "dopri5" or said.get("step_control") == "shared":
        reason = f"--{given}" if given else "method dopri5"
        raise UsageError(
            f"--bpd-tol chooses the tolerance of method adams, and {reason} was given, too",
            hint="leave one of them out",
        )


def check_probe_error(wish: float, kind: str | None, scheme: str | None) -> None:
    """Refuse an error that no number of colours is chosen for."""
    if not 0 < wish < 1:
        raise UsageError(
            f"--probes {AUTO}:{wish:g} is no error between 0 and 1 bits/dim", hint="use 0.01, say"
        )
    if kind != "fresh" or scheme == "independent":
        raise UsageError(
            f"--probes {AUTO}:{wish:g} chooses into how many colours a fresh probe of method adams is cut, "
            f"and the probe is {scheme if kind == 'fresh' else kind}",
            hint="leave --method and --probe out, or say how many probes",
        )


def check_budget(budget: float | None) -> None:
    """Refuse what is no number of seconds."""
    if budget is not None and not 0 < budget < float("inf"):
        raise UsageError(
            f"a budget of {budget:g} seconds an image is no finite number above 0",
            hint="0.5, say, or leave it out for as many as it takes",
        )


def check_bpd_tol(wish: float, method: str) -> None:
    """Refuse an error that no tolerance is chosen for."""
    if not 0 < wish < 1:
        raise UsageError(f"--bpd-tol {wish} is no error between 0 and 1 bits/dim", hint="use 1e-3, say")
    if method != "adams":
        raise UsageError(
            "--bpd-tol chooses the tolerance of method adams, and method dopri5 was given, too",
            hint="leave one of them out",
        )


def refuse_quad_check(word: str | None) -> None:
    """Refuse to measure what dopri5 does not leave."""
    if word in ("pilot", "all"):
        raise UsageError(
            f"--quad-check {word} measures the quadrature of method adams, and the method is dopri5",
            hint="leave it out: dopri5 has the trace in its error norm",
        )


def refuse_path_check(word: str | None) -> None:
    """Refuse to try a correction that dopri5 has not."""
    if word == "pilot":
        raise UsageError(
            "--path-check pilot tries the correction of method adams' path, and the method is dopri5",
            hint="leave it out: dopri5 corrects nothing",
        )


def check_selection(limit: int | None, ids: tuple[int, int] | None) -> None:
    """Refuse two selections, or an empty one."""
    if limit is not None and ids is not None:
        raise UsageError("--limit and --ids were both given", hint="use one of them")
    at_least_one("limit", limit)
    if ids is not None and not 0 <= ids[0] < ids[1]:
        raise UsageError(f"ids {ids[0]}:{ids[1]} choose no image", hint="use 0 <= A < B, half open")


def check_threshold(name: str, value: float | str) -> None:
    """Refuse a threshold that is none, in one of its four words."""
    if name == "eta" and isinstance(value, str):
        if value not in ("min", "max", "auto"):
            raise UsageError(f"--eta {value!r} is neither a number in [0, 1] nor min, max or auto")
        return
    number = float(value)
    if name == "eta" and not 0 <= number <= 1:
        raise UsageError(
            f"--eta {number} lies outside [0, 1]", hint="0 is the quality expert alone, 1 the likelihood one"
        )
    if not isfinite(number) or (name == "edm_sigma" and number <= 0):
        wanted = "a positive finite number" if name == "edm_sigma" else "a finite number"
        raise UsageError(f"{option_name(name)} {number} is not {wanted}")


def check_mean_of(
    n_set: int | str | None,
    wish: float | None,
    limit: int | None,
    excluded: Mapping[str, object],
    dequantise: str,
) -> None:
    """Refuse a mean over a set that has no random choice behind it, or cannot be one of bits/dim.

    ``excluded`` has the values of what `NOT_BESIDE_MEAN_OF` names.
    """
    if wish is not None and n_set is None:
        raise UsageError(
            f"--plan-for {wish} belongs to --mean-of, which was not given",
            hint="--mean-of all plans the mean over the whole set",
        )
    if n_set is None:
        return
    if wish is not None and not 0 < wish < float("inf"):
        raise UsageError(f"--plan-for {wish} is no standard error", hint="use one above 0, in bits/dim")
    if wish is not None and limit is not None and limit < 2:
        raise UsageError(
            f"--plan-for {wish} is found from how images differ, and --limit {limit} measures one",
            hint="leave --limit out: 30 images are measured then",
        )
    if n_set != ALL and (isinstance(n_set, str) or n_set < 2):
        raise UsageError(f"--mean-of {n_set} is neither a number of images from 2 up nor {ALL}")
    for name, (reason, hint) in NOT_BESIDE_MEAN_OF.items():
        if excluded[name]:
            raise UsageError(f"--mean-of and {option_name(name)} were both given, but {reason}", hint=hint)
    if dequantise == "none":
        raise UsageError(
            "--mean-of is of bits/dim, and with --dequantise none there are none",
            hint="leave one of them out",
        )
    if limit is None and wish is None:
        raise UsageError(
            f"--mean-of {n_set} without --limit: how many of the images are measured exactly?",
            hint="--limit 96, say; --plan-for 0.01 says how many a standard error of 0.01 bits/dim takes",
        )
    if limit is not None and not isinstance(n_set, str) and limit > n_set:
        raise UsageError(
            f"--limit {limit} images cannot be chosen out of --mean-of {n_set}",
            hint="--mean-of is the larger set, of which --limit are measured",
        )


def check_experts(words: Mapping[str, object], thresholds: Sequence[str]) -> None:
    """Refuse experts and thresholds that are no model."""
    given = [name for name in thresholds if words[name] is not None]
    if len(given) > 1:
        names = " and ".join(option_name(name) for name in given)
        raise UsageError(f"{names} were given, but a model has one threshold", hint="use one of them")
    _check_gate_alone(words, given)
    _check_several(words, given)
    if words["expert"] is not None:
        others = [*given, *(name for name in (*OF_A_PAIR, "compare") if words[name])]
        if others:
            raise UsageError(
                f"--expert is one expert alone and excludes {option_name(others[0])}",
                hint="use --likelihood-expert and --quality-expert for a merged model",
            )
    for name in given:
        check_threshold(name, cast("float | str", words[name]))


def _check_several(words: Mapping[str, object], given: Sequence[str]) -> None:
    """Refuse what three experts and more leave no room for."""
    experts, gammas = cast("tuple[str, ...] | None", words["experts"]), words["gammas"]
    if experts is None:
        if gammas is not None:
            raise UsageError(
                "--gammas are the thresholds of three experts or more, and one --expert or none is given",
                hint="repeat --expert, in the order of rising noise; a pair has --gamma",
            )
        return
    if len(experts) < 3:
        raise UsageError(
            f"--expert was given {len(experts)} times: several are three or more, by rising noise",
            hint="use --likelihood-expert and --quality-expert for two",
        )
    others = [*given, *(name for name in ("expert", *OF_A_PAIR, "compare", "guidance") if words[name])]
    others += ["range"] if words["range"] != "native" else []
    if others:
        raise UsageError(
            f"several --expert have their thresholds by --gammas and exclude {option_name(others[0])}",
            hint="leave it out",
        )
    if gammas is not None and words["gate"] is not None:
        raise UsageError("--gammas and --gate were both given", hint="use one of them")
    if isinstance(gammas, tuple) and len(gammas) + 1 != len(experts):
        raise UsageError(
            f"{len(gammas)} --gammas for {len(experts)} experts, which change over {len(experts) - 1} times",
            hint="give them with commas between: --gammas=-6.5,-1",
        )


def _check_gate_alone(words: Mapping[str, object], thresholds: Sequence[str]) -> None:
    """Refuse what a gate leaves no room for: a threshold, one expert alone, other ranges."""
    if words["gate"] is None:
        return
    others = [*thresholds, *(name for name in ("expert", "extrapolate") if words[name])]
    others += ["range"] if words["range"] != "native" else []
    others += ["guidance"] if words["guidance"] is not None else []
    if others:
        raise UsageError(
            f"--gate {words['gate']} shares the noise levels of several experts and excludes "
            f"{option_name(others[0])}",
            hint="leave one of them out",
        )
