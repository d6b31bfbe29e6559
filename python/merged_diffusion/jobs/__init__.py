"""From settings to records and a summary: what ``merged-diffusion nll`` does, as calls.

`settings` (no torch) says what is asked, `plan` which images under which models on which machine, `evaluate`
carries it out, `summary` puts the numbers together from records alone.
"""
