"""One command over many thresholds: which eta, and how sure is that?

A sweep is a list of thresholds, each with the command for it alone. `thresholds` and `request` (no torch) say
which, and what of each; `sweep_plan` makes the list. `scored` rows are evaluations, which may share steps,
`drawn` ones are samples, measured against a `reference`. `table` is what there is to read, `comparison` what
the rows say together, `sweep_folder` keeps both, `carry_out` does it all.
"""
