"""One evaluation over many thresholds: which eta, and how sure is that?

`thresholds` (no torch) says which, `rows` makes each one an evaluation by itself, `likelihood` scores them
together, `table` compares them, `sweep` carries it all out.
"""
