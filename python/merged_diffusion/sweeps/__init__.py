"""One command over many thresholds: which eta, and how sure is that?

`thresholds` and `request` (no torch) say which, and what of each; `rows` makes each one a command by itself,
`plan` puts them side by side. `scored` rows are evaluations (`scoring` computes once what they share),
`drawn` ones are samples, measured against a `reference`; `place` decides. `table` compares them, `folder`
keeps them, `sweep` does it all.
"""
