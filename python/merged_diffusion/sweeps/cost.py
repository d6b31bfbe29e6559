"""What a sweep has spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Cost:
    """Network evaluations: what was spent, and what the rows would have taken one by one."""

    spent: int = 0
    single_runs: int = 0

    def add(self, spent: int, single_runs: int) -> None:
        """Count in what came to its end."""
        self.spent += spent
        self.single_runs += single_runs
