"""Public checkpoints as cards and tensors: every file is data, read inertly and recognised by its content."""
