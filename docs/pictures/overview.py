"""The first picture: likelihood against distance of samples, two experts and the merged model; samples below.

    python docs/pictures/overview.py
    python docs/pictures/overview.py --renew results/publish/scenes

Draws `overview.svg` from what was measured, which `overview.json` keeps. ``--renew`` reads two sweeps anew:
those of ``recipes/publish.py run``.
"""

import argparse
import base64
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from merged_diffusion.data.mosaic import mosaic
from merged_diffusion.plots.look import COLOURS, FONT, INK

HERE = Path(__file__).parent
KEPT = HERE / "overview.json"
SHOWN = 12  # samples of each model
ROWS = {"quality": "quality expert", "eta 0.4500": "merged", "likelihood": "likelihood expert"}


def measured(results: Path) -> dict[str, object]:
    """What the picture shows of two sweeps: a point for each threshold, the first samples of three."""
    rows = {
        name: json.loads((results / name / "sweep.json").read_text("utf-8"))["rows"]
        for name in ("nll", "sample-ode")
    }
    points = []
    for scored, drawn in zip(rows["nll"], rows["sample-ode"], strict=True):
        distance = drawn["summary"]["quality"]["primary"]
        points.append(
            {
                "name": scored["name"],
                "bits_per_dim": scored["summary"]["bits_per_dim"]["mean"],
                "distance": distance["value"],
                "se": distance["se"],
            }
        )
    images = {}
    for row in rows["sample-ode"]:
        if row["name"] in ROWS:
            with np.load(results / "sample-ode" / row["folder"] / "samples.npz", allow_pickle=False) as kept:
                shown = kept["images"][:SHOWN]
            images[row["name"]] = {
                "shape": shown.shape,
                "bytes": base64.b64encode(shown.tobytes()).decode(),
            }
    return {"points": points, "images": images}


def pixels(kept: dict[str, object]) -> np.ndarray:
    """Images uint8 [N, C, H, W] from their bytes."""
    return np.frombuffer(base64.b64decode(kept["bytes"]), dtype=np.uint8).reshape(kept["shape"])


def role(name: str) -> str:
    """Whose colour a row has."""
    return name if name in COLOURS else "merged"


def drawn(kept: dict[str, object]) -> Figure:
    """Points above, strips beneath."""
    figure = Figure(figsize=(6.6, 4.9), facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    above, beneath = figure.subplots(2, 1, height_ratios=(2.1, 1))

    points = kept["points"]
    merged = [point for point in points if role(point["name"]) == "merged"]
    above.plot(
        [point["bits_per_dim"] for point in merged],
        [point["distance"] for point in merged],
        color=COLOURS["merged"],
        linewidth=1.2,
        alpha=0.6,
    )
    for point in points:
        colour = COLOURS[role(point["name"])]
        above.errorbar(
            point["bits_per_dim"],
            point["distance"],
            yerr=point["se"],
            color=colour,
            ecolor=(colour, 0.4),
            marker="o" if role(point["name"]) == "merged" else "D",
            markersize=6,
            elinewidth=0.9,
        )
    where = {point["name"]: (point["bits_per_dim"], point["distance"]) for point in points}
    for name, words, shift, side in (
        ("likelihood", "likelihood expert alone", (9, -3), "left"),
        ("quality", "quality expert alone", (0, 12), "center"),
        ("eta 0.4500", "merged, η = 0.45", (-9, -20), "left"),
        ("eta 0.7500", "η = 0.75", (-9, -3), "right"),
    ):
        above.annotate(
            words, where[name], xytext=shift, textcoords="offset points", ha=side, color=COLOURS[role(name)]
        )
    above.spines[["top", "right"]].set_visible(False)
    above.margins(x=0.2, y=0.2)
    above.set_xlabel("bits/dim of 360 test images (fewer is better)")
    above.set_ylabel("distance of 500 samples\n(less is better)")

    images = np.concatenate([pixels(kept["images"][name]) for name in ROWS])
    sheet = mosaic(images, 256, columns=SHOWN)
    beneath.imshow(sheet, interpolation="nearest")
    beneath.spines[:].set_visible(False)
    beneath.set_xticks([])
    pitch = images.shape[2] + 1
    beneath.set_yticks([k * pitch + (pitch - 2) / 2 for k in range(len(ROWS))], list(ROWS.values()))
    beneath.tick_params(axis="y", length=0)
    for label, name in zip(beneath.get_yticklabels(), ROWS, strict=True):
        label.set_color(COLOURS[role(name)])
    beneath.set_title("samples from the same noise", fontsize=10, color=INK)
    return figure


def main() -> None:
    """Renew what is kept, if asked, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--renew", type=Path, metavar="RESULTS")
    given = parser.parse_args()
    if given.renew is not None:
        KEPT.write_text(json.dumps(measured(given.renew), separators=(",", ":")) + "\n", encoding="utf-8")
    style = FONT | {"svg.fonttype": "path", "svg.hashsalt": "overview", "axes.titlepad": 4}
    with mpl.rc_context(style):
        figure = drawn(json.loads(KEPT.read_text(encoding="utf-8")))
        figure.savefig(HERE / "overview.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
