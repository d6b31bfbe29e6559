"""Train the bundled experts again, one after the other.

    python recipes/train_all.py [--out DIR] [--threads N] [--install] [NAME ...]

Those of digits and photos take half an hour on one core, each of scenes about an hour and a half; scenes'
train split has to be there (``merged-diffusion data make scenes``). An interrupted training goes on where it
stopped. ``--install`` copies weights and cards into the package.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import merged_diffusion.experts
from merged_diffusion.training import train

RECIPES = Path(__file__).resolve().parent
NAMES = ("digits-vdm", "digits-edm", "photos-vdm", "photos-edm", "scenes-vdm", "scenes-edm")


def main() -> None:
    """Parse the command line, train, install."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}; all")
    parser.add_argument("--out", type=Path, default=Path("runs/experts"), help="folder of the trainings")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1: as the bundled ones)")
    parser.add_argument("--install", action="store_true", help="copy the results into the package")
    options = parser.parse_args()
    bundled = Path(merged_diffusion.experts.__file__).parent / "bundled"
    for name in options.names:
        folder = train(RECIPES / f"{name}.toml", options.out / name, threads=options.threads)
        if options.install:
            (bundled / name).mkdir(parents=True, exist_ok=True)
            for file in ("model.safetensors", "card.toml"):
                shutil.copyfile(folder / file, bundled / name / file)


if __name__ == "__main__":
    main()
