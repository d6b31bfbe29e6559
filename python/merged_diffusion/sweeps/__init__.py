"""One evaluation over many thresholds: which eta, and how sure is that?

`thresholds` (no torch) says which, `rows` makes each one an evaluation by itself, `plan` puts them side by
side, `likelihood` scores them together, `table` compares them, `folder` keeps them, `sweep` does it all.
"""
