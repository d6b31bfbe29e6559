"""What a sweep has spent."""

from __future__ import annotations

from dataclasses import dataclass, field

from merged_diffusion.ode.time_profile import TimeProfile


@dataclass
class Cost:
    """Network evaluations: what was spent, and what the rows would have taken one by one."""

    spent: int = 0
    single_runs: int = 0
    time_profile: TimeProfile | None = field(default_factory=TimeProfile)
    """Of this command, where it was asked for; None of one that was cut short."""

    def add(self, spent: int, single_runs: int, time_profile: TimeProfile | None = None) -> None:
        """Count in what came to its end."""
        self.spent += spent
        self.single_runs += single_runs
        if self.time_profile is not None and time_profile is not None:
            self.time_profile += time_profile
