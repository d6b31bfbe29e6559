"""What can be done about a network's exception, told by the words of torch or Python in it."""

from __future__ import annotations

import re
from typing import Final

WHOLE: Final = (
    "it wants whole timesteps, and is given fractions: CallableExpert.ddpm(net, whole_steps=True, ...), or "
    "call it as net(z, t.round().long()) in a function of your own"
)
FULL: Final = (
    "the network and what it is given have two precisions: a module is computed in float32 here, whatever "
    "its weights were, and is given that: net.float() without casts of its own. To keep another precision, "
    "hide the network in a function, which nobody converts: net(z.half(), t.half()).float(), or, as bfloat16 "
    "holds no time, net(z.bfloat16(), t).float()"
)
RELATIVE: Final = "run it as a module of its package: package.file:name, from the folder above the package"
# Words of torch 2 and Python 3.11 on, by what they mean.
WORDS: Final = (
    (
        re.compile(r"argument #1 'indices'|index tensor|used as indices must be|for index\b|to an index"),
        WHOLE,
    ),
    (re.compile(r"embedding\(\).*(?:indices|Long)"), WHOLE),
    (re.compile(r"must have the same dtype|type .* should be the same|same dtype, but got"), FULL),
    (re.compile(r"relative import with no known parent"), RELATIVE),
)


def cure(error: BaseException) -> str | None:
    """The hint that cures ``error``; None where its words say nothing that is known."""
    text = str(error)
    return next((hint for words, hint in WORDS if words.search(text)), None)
