"""Draw the gate of a card, as in docs/beyond.md: ``python docs/pictures/gate.py CARD.toml OUT.svg``."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from merged_diffusion import load_gate

INK, PALE = "#1f4e79", "#9db4c8"


def main(card: Path, out: Path) -> None:
    """The measured shares with their standard errors, and the spline that was chosen."""
    gate = load_gate(card)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    measured = gate.about.get("measured")
    if measured:
        inside = np.array(measured["gamma"]) < gate.end
        axes.errorbar(
            np.array(measured["gamma"])[inside],
            np.array(measured["w"])[inside],
            yerr=np.array(measured["se"])[inside],
            fmt="o",
            markersize=3.5,
            color=PALE,
            label="least loss, with standard errors",
        )
    gamma = np.linspace(gate.start - 1, gate.end + 1, 400)
    axes.plot(gamma, gate(gamma), color=INK, label=f"the {gate.form} gate")
    axes.set_xlabel("gamma (minus log SNR)")
    axes.set_ylabel("share of the likelihood expert")
    axes.set_ylim(-0.05, 1.1)
    axes.legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
