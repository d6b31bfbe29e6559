"""How the files begin that `export` writes: what may be replaced by another of them.

Whatever the number of the table, so that a file may be written again as another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HEADERS: Final = (  # of CSV, which has no title; a column of standard errors stands behind many
    r"model,gamma,bits/dim(,bits/dim se)?,difference(,difference se)?,(evaluations|sd of repeats)"
    r"(,paper bits/dim,paper (evaluations|sd))?",
    r"model,gamma,sampler,[^\n]+,images,evaluations(,paper FID,paper evaluations)?",
    r"model,source,NLL \(bits/dim\)(,NLL \(bits/dim\) se)?,(FID|distance)(,(FID|distance) se)?,evaluations",
    r"expert,end,alpha,sigma,gamma",
)
TABLES: Final[Mapping[str, re.Pattern[str]]] = {
    "markdown": re.compile(r"\A\*\*[^\n]+ \(table [1-6]\)\*\*\n\n\| [^\n]+ \|\n\|---"),
    "latex": re.compile(
        r"\A% needs \\usepackage\{booktabs\}\n\\begin\{table\}\n  \\centering\n"
        r"  \\caption\{[^\n]+ \(table [1-6]\)\}\n"
    ),
    "csv": re.compile(rf"\A({'|'.join(HEADERS)})\n"),
}
