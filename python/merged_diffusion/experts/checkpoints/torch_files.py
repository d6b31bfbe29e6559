"""Files of ``torch.save``: which family's they are, by the names in them, and what they hold.

What the file does not say is said by the user (``--as``), by the published name of the file, or by a card
beside it, which must not contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.checkpoints import addtt, lucidrains, openai, score_sde
from merged_diffusion.experts.checkpoints.families import refused
from merged_diffusion.experts.checkpoints.read_as import ReadAs
from merged_diffusion.files.tensors import View, tensors_of
from merged_diffusion.files.torch_legacy import pickled_legacy
from merged_diffusion.files.torch_zips import pickled
from merged_diffusion.files.weights import unwrapped

ZIP: Final = b"PK\3\4"
MEANS: Final = ("ema_model", "ema")  # of the state dicts in a file, the one of a running mean


def read(
    path: Path, name: str, said: ReadAs | None, stated: Card | None
) -> tuple[str, Card, dict[str, Tensor]]:
    """Family, card and state dict; ``stated`` is the card beside the file, if there is one."""
    where = str(path)
    with _held(path) as (value, size):
        if addtt.is_addtt(value):
            _check_family(said, ("addtt",), where)
            return "addtt", *addtt.read(value, size, path, name)
        held = value if isinstance(value, dict) else {}
        if _has(held.get("model"), score_sde.OWN):
            _check_family(said, ("score_sde",), where)
            tensors = tensors_of(score_sde.state(held, where), size, where)
            words = _joined(said, None if stated is None else score_sde.words_of(stated), where)
            return "score_sde", *score_sde.read(tensors, words, stated, name, where)
        if any(_has(part, lucidrains.OWN) for part in (held, *held.values())):
            _check_family(said, ("lucidrains",), where)
            tensors = tensors_of(lucidrains.state(held, where), size, where)
            words = _joined(said, None if stated is None else lucidrains.words_of(stated), where)
            return "lucidrains", *lucidrains.read(tensors, words, name, where)
        views = _openai(held, where)
        if views is None:
            raise refused(value, where)
        openai.refuse_consistency(path)
        tensors = {f"model.{key}": tensor for key, tensor in tensors_of(views, size, where).items()}
        if stated is not None:
            _joined(said, openai.words_of(stated), where)
            if said is None or not said.options.keys() - openai.BESIDE_A_CARD:
                return "openai", stated, tensors
        if said is None:
            raise _unsaid(where, bool({"ema_model", "net_model"} & held.keys()))
        _check_family(said, ("openai", "torchcfm"), where)
        return said.family, openai.card(views, said, name, where), tensors


@contextmanager
def _held(path: Path) -> Iterator[tuple[Any, int]]:
    with path.open("rb") as stream:
        is_zip = stream.read(len(ZIP)) == ZIP
    with pickled(path) if is_zip else pickled_legacy(path) as found:
        yield found


def _has(state: Any, word: str) -> bool:
    """Whether a name of a state dict begins or ends with a word, wrappers apart."""
    if not isinstance(state, dict):
        return False
    names = (key.removeprefix("module.") for key in state if isinstance(key, str))
    return any(key.startswith(word) or key.endswith(word) for key in names)


def _openai(held: Mapping[Any, Any], where: str) -> dict[str, View] | None:
    """The state dict of OpenAI's U-Net: the file itself, or its running mean."""
    states = {key: state for key, state in held.items() if _has(state, openai.OWN)}
    if _has(held, openai.OWN):
        state = held
    elif not states:
        return None
    else:
        means = [key for key in MEANS if key in states]
        if len(means) > 1:
            raise CheckpointError(
                f"{where}: holds {' and '.join(means)}, two running means of the weights",
                hint="save the state dict of the one that is meant alone",
                file=where,
            )
        mean = means[0] if means else None
        if mean is None:
            raise CheckpointError(
                f"{where}: holds {', '.join(map(str, states))}, but no running mean (ema_model)",
                hint="raw weights are never evaluated by accident; save the mean's state dict alone",
                file=where,
            )
        state = states[mean]
    views = {key: view for key, view in state.items() if isinstance(key, str) and isinstance(view, View)}
    return unwrapped(views, where)


def _joined(said: ReadAs | None, of_card: ReadAs | None, where: str) -> ReadAs | None:
    """What the user says and what a card beside the file says of its names."""
    if said is None or of_card is None:
        return said or of_card
    return said.joined(of_card, where, f"card.toml beside it, {of_card}")


def _check_family(said: ReadAs | None, families: tuple[str, ...], where: str) -> None:
    """Refuse words of another family than those that the names are of."""
    if said is not None and said.family not in families:
        expected = " or ".join(families)
        raise CheckpointError(
            f"{where}: --as {said} is said, and its names are those of {expected}",
            hint="leave --as out where the file says all itself",
            file=where,
            expected=expected,
            found=said.family,
        )


def _unsaid(where: str, is_torchcfm: bool) -> CheckpointError:
    openai_words = "--as openai:heads=4,order=legacy,schedule=cosine,steps=4000,rescaled=yes"
    words = "--as torchcfm:icfm,head_channels=64,order=legacy" if is_torchcfm else openai_words
    families = [ReadAs("torchcfm")] if is_torchcfm else [ReadAs("openai"), ReadAs("torchcfm")]
    return CheckpointError(
        f"{where}: weights of OpenAI's U-Net; the file says neither heads of attention and the order of "
        "their q, k and v nor what the network predicts at which times",
        hint=f"say what its training was, for example {words}; or put a card.toml beside it",
        file=where,
        key="read_as",
        expected=[candidate for family in families for candidate in family.candidates()],
    )
