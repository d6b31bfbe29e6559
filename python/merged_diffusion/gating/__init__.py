"""Which gate: fitted to residual products of both experts, and chosen by exact runs, on held-back images."""
