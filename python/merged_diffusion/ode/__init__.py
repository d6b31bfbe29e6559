"""The probability-flow ODE: its legs are stepped by the core, its tensors and derivatives live here."""
