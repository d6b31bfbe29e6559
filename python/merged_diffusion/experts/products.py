"""Whether an expert has its whole gradient: products with it against differences of what it returns."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import ExpertError, ExpertWarning, Facts
from merged_diffusion.experts import gradient
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import ask, ask_in_parts, pull
from merged_diffusion.experts.memory import Rows


def answer(expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None) -> Tensor:
    """The expert's answer to copies, which must come back unchanged."""
    asked = [z, gamma] if cond is None else [z, gamma, cond]
    given = [tensor.clone() for tensor in asked]
    out = ask_in_parts(expert, given[0], given[1], None if cond is None else given[2])
    if not all(torch.equal(before, after) for before, after in zip(asked, given, strict=True)):
        raise unsound(expert, "changes its input", hint="let it work on a copy")
    if out.untyped_storage().data_ptr() in {tensor.untyped_storage().data_ptr() for tensor in given}:
        raise unsound(expert, "returned its input, or a view of it", hint="return a new tensor")
    return out


def check_gradient(expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, first: Tensor) -> None:
    """It has one, by a call of a single row: a graph of all may not fit into the memory."""
    row = slice(len(z) // 2, len(z) // 2 + 1)
    labels = None if cond is None else cond[row]
    out = ask(expert, z[row].clone().requires_grad_(), gamma[row].clone(), labels, grad=True)
    if not out.requires_grad:
        _refuse_unless_constant(expert, z, gamma, cond, first)


def _refuse_unless_constant(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, first: Tensor
) -> None:
    """A constant has no gradient and needs none."""
    if not torch.equal(answer(expert, 0.5 * z, gamma, cond), first):
        raise unsound(
            expert,
            "depends on z but stops its gradient, so that its trace would be taken for zero",
            hint="it must not detach its input or run under no_grad",
        )


def check_products(
    expert: Expert,
    z: Tensor,
    gamma: Tensor,
    cond: Tensor | None,
    first: Tensor,
    *,
    accepted: bool,
    coupled: bool,
) -> None:
    """Products with the gradient against differences of what is returned (`gradient`)."""
    width = float(gamma[-1] - gamma[0])

    def call(part: slice, state: Tensor, rows: Tensor) -> Tensor:
        own = torch.arange(len(z))[part][rows]
        labels = None if cond is None else cond[own]
        return ask(expert, state, gamma[own], labels, grad=state.requires_grad)

    def product(out: Tensor, state: Tensor, v: Tensor) -> Tensor | None:
        return pull(expert, out, state, v)

    # Rows that depend on each other cannot be asked in parts.
    together = Rows(len(z), z.device, least=len(z) if coupled else 1)
    compare = partial(gradient.compare, product=product, width=width, coupled=coupled)
    while True:
        found = []
        with together.attempt() as rows:
            for start in range(0, len(z), rows):
                part = slice(start, start + rows)
                found.append(compare(partial(call, part), z=z[part], gamma=gamma[part], value=first[part]))
            break
    verdict = gradient.joined([one for one in found if one is not None])
    if verdict is None:
        _refuse_unless_constant(expert, z, gamma, cond, first)
        return
    seen = f"this look sees errors of q from {gradient.resolution(width):.2g} a value on"
    if verdict.worst is not None:
        worst = verdict.worst
        text = (
            f"has part of its gradient missing: at gamma = {worst.gamma:.4g} its product says q = "
            f"{worst.product:.4g} a value, differences of what it returns {worst.difference:.4g} ({seen})"
        )
        if verdict.is_wrong and not accepted:
            raise unsound(
                expert,
                text,
                hint="nothing on the way from z may be detached or computed under no_grad; "
                f"--accept-gradient {expert.name} (in Python Accept(gradient={expert.name!r})) goes on all "
                "the same",
                gamma=worst.gamma,
            )
        warn_caller(f"expert {expert.name} {text}", ExpertWarning)
    elif verdict.rough:
        at = ", ".join(f"{value:.4g}" for value in verdict.rough)
        text = (
            f"expert {expert.name} is too rough at gamma = {at} to check its gradient by differences; {seen}"
        )
        if (doubt := verdict.doubt) is not None:
            text += (
                f". By coarse steps part of it may be missing: at gamma = {doubt.gamma:.4g} they say q = "
                f"{doubt.difference:.4g}, its product {doubt.product:.4g}"
            )
        warn_caller(text, ExpertWarning)


def unsound(expert: Expert, text: str, *, hint: str | None = None, gamma: float | None = None) -> ExpertError:
    """The error that says what is wrong with an expert."""
    fields: Facts = {"expert": expert.name}
    if gamma is not None:
        fields["gamma"] = gamma
    return ExpertError(f"expert {expert.name} {text}", hint=hint, **fields)
