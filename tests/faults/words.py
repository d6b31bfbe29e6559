"""Sound files of public families of which ``--as`` says what cannot be; and some that can."""

from pathlib import Path

import torch
from tests.checkpoints.public_files import score_sde
from tests.faults.case import Case
from tests.faults.public_states import DIGITS, OPENAI, VP, reference

REFUSED, USAGE = 4, 2


def cases(folder: Path, canary: Path) -> list[Case]:
    """Two files, and everything that is said of them."""
    folder.mkdir(parents=True)
    made = []
    for family, (value, lines) in said().items():
        path = folder / f"{family}.pt"
        torch.save(value, path)
        for name, (words, code) in lines.items():
            made.append(Case(f"words/{name}", path, "expert", code, {"read_as": words}))
    return made


def said():
    """By family a sound file, and what is said of it."""
    nothing = "99999999999999999999"
    return {
        "openai": (
            reference("openai/guided-cond"),
            {
                "size-of-a-billion": (f"{OPENAI},size=1000000000", USAGE),
                "size-that-is-odd": (f"{OPENAI},size=7", REFUSED),
                "size-of-none": (f"{OPENAI},size=0", USAGE),
                "heads-of-a-billion": (f"openai:heads={nothing},order=new,cosine,steps=1000", USAGE),
                "heads-of-65536": (
                    "openai:heads=65536,order=new,cosine,steps=1000,rescaled=no,groups=2",
                    REFUSED,
                ),
                "heads-negative": ("openai:heads=-1,order=new", USAGE),
                "channels-that-do-not-divide": (OPENAI.replace("channels=4", "channels=3"), REFUSED),
                "channels-beyond": (OPENAI.replace("channels=4", "channels=9"), REFUSED),
                "groups-that-do-not-divide": (OPENAI.replace("groups=2", "groups=3"), REFUSED),
                "steps-of-one": (OPENAI.replace("1000", "1"), REFUSED),
                "steps-of-a-billion": (OPENAI.replace("1000", "1000000000"), USAGE),
                "steps-of-5000-digits": (OPENAI.replace("1000", DIGITS), USAGE),
                "steps-of-1e400": (OPENAI.replace("1000", "1e400"), USAGE),
                "steps-of-1e3": (OPENAI.replace("1000", "1e3"), USAGE),
                "steps-of-65536-honest": (OPENAI.replace("1000", "65536"), 0),
                "of-a-megabyte": ("openai:" + "x" * 1_000_000, USAGE),
                "of-a-million": (f"{OPENAI}" + ",rescaled=no" * 100_000, 0),
                "without-family": (":", USAGE),
                "of-nul": ("openai:heads=\0", USAGE),
                "of-python": ("openai:heads=__import__('os')", USAGE),
                "of-another-family": ("score_sde:vp", REFUSED),
            },
        ),
        "score-sde": (
            score_sde(reference("score-sde/like-vp")),
            {
                "sde-of-betas-turned-round": (f"{VP},beta_min=20,beta_max=0.1", REFUSED),
                "sde-of-equal-betas": (f"{VP},beta_min=1,beta_max=1", REFUSED),
                "sde-of-betas-of-1e300": (f"{VP},beta_min=1,beta_max=1e300", REFUSED),
                "sde-of-betas-of-1e-320": (f"{VP},beta_min=1e-320,beta_max=1e-319", REFUSED),
                "sde-of-betas-of-3000": (f"{VP},beta_max=3000", REFUSED),
                "sde-of-nan": (f"{VP},beta_min=nan", USAGE),
                "sde-of-sub-vp-of-betas-of-3000": ("score_sde:subvp,size=8,beta_max=3000", REFUSED),
                "sde-of-65536-pixels": ("score_sde:vp,size=65536", 0),
                "sde-of-7-pixels": ("score_sde:vp,size=7", REFUSED),
                "sde-of-1-pixel": ("score_sde:vp,size=1", REFUSED),
            },
        ),
    }
