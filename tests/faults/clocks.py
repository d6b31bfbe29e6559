"""Cards of the public kinds whose ``[clock]`` cannot be; the schedule of VDM's flax; and honest ones."""

import os
from pathlib import Path

import numpy as np
from tests.checkpoints import writers
from tests.checkpoints.public_files import SAID, checkpoint
from tests.faults.case import Case
from tests.faults.states import vdm_reference

from merged_diffusion.experts.converting import convert_expert

REFUSED = 4
KINDS = {
    "ddpm": "openai/guided-cond", "flow": "torchcfm/icfm", "vp_sde": "score-sde/like-vp",
    "ve": "score-sde/ncsnpp-ve",
}  # fmt: skip
NUMBERS = ("0", "-1", "nan", "inf", '"1"', "[1]", "true", "{ a = 1 }")
# By kind: what stands below [clock], and what a name for it is.
CLOCKS = {
    "ddpm": {
        "gammas-of-a-million": "gammas = [" + "1," * 1_000_000 + "]",
        "gammas-of-100000": "gammas = [" + "1," * 100_000 + "]",
        "gammas-of-10001": "gammas = [" + ",".join(map(str, np.linspace(-9, 9, 10_001))) + "]",
        "gammas-of-one": "gammas = [1.0]", "gammas-of-none": "gammas = []",
        "gammas-of-nan": "gammas = [nan, 1.0]",
        "gammas-of-infinity": "gammas = [-9.0, inf]", "gammas-flat": "gammas = [1.0, 1.0]",
        "gammas-in-lists": "gammas = [[1.0], [2.0]]",
        "gammas-of-text": 'gammas = ["-9", "9"]', "gammas-a-number": "gammas = 3",
        "gammas-that-turn": "gammas = [-60.0, 60.0, 0.0]", "gammas-that-cover-less": "gammas = [-1.0, 1.0]",
        "steps-of-a-billion": 'schedule = "cosine"\nsteps = 1000000000',
        "steps-of-65537": 'schedule = "cosine"\nsteps = 65537',
        "steps-of-one": 'schedule = "cosine"\nsteps = 1', "steps-alone": "steps = 1000", "nothing": "",
        "schedule-unknown": 'schedule = "cubic"\nsteps = 1000',
        "schedule-as-list": "schedule = []\nsteps = 1000",
        "unknown": 'schedule = "cosine"\nsteps = 1000\nevil = 1',
        "of-another-kind": "beta_min = 0.1\nbeta_max = 20.0",
        "rescaled-of-one": 'schedule = "cosine"\nsteps = 1000\nrescaled = 1',
        "twice": "steps = 1000\nsteps = 1000",
        "dates": "steps = 1979-05-27", "steps-of-digits": "steps = " + "9" * 5000,
        **{f"steps-{i}": f'schedule = "cosine"\nsteps = {number}' for i, number in enumerate(NUMBERS)},
    },
    "flow": {
        "data-at-both": "data_at = 0.5",
        "data-at-the-other-end": "data_at = 0\nscale = 1.0", "coupled-by-a-number": "coupled = 1",
        "unknown": "data_at = 1\nevil = 1",
        **{f"scale-{i}": f"scale = {number}" for i, number in enumerate(NUMBERS)},
    },
    "vp_sde": {
        "betas-turned-round": "beta_min = 20.0\nbeta_max = 0.1", "betas-equal": "beta_min = 1\nbeta_max = 1",
        "beta-min-above": "beta_min = 21", "unknown": "gammas = [1.0, 2.0]",
        **{f"{key}-{i}": f"{key} = {n}" for key in ("beta_min", "scale") for i, n in enumerate(NUMBERS)},
    },
    "ve": {
        "logarithm-of-one": "logarithm = 1", "divided-by-text": 'divided = "yes"',
        "unknown": "sigma_min = 0.01",
        **{f"unit-{i}": f"unit = {number}" for i, number in enumerate(NUMBERS)},
    },
}  # fmt: skip


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every folder with a card, and every flax file."""
    folder.mkdir(parents=True)
    made = []
    for kind, name in KINDS.items():
        whole = folder / f"honest-{kind}"
        convert_expert(checkpoint(name, folder), whole, read_as=SAID[name])
        made.append(Case(f"clocks/honest-{kind}", whole, "expert", 0))
        head, _, rest = (whole / "card.toml").read_text().partition("\n[clock]\n")
        tail = rest[rest.index("\n[") :] if "\n[" in rest else ""
        for fault, text in CLOCKS[kind].items():
            place = folder / f"{kind}-{fault}"
            place.mkdir()
            os.link(whole / "model.safetensors", place / "model.safetensors")
            (place / "card.toml").write_text(f"{head}\n[clock]\n{text}\n{tail}")
            made.append(Case(f"clocks/{place.name}", place, "expert", REFUSED))
    return made + list(schedules(folder))


def monotone(first=(18.0, -13.3), n=4, **changes):
    """Google's network of gamma: two numbers, and n of a layer between."""
    width, start = (np.full(1, value, np.float32) for value in first)
    inner = np.linspace(-1, 1, n, dtype=np.float32)
    layers = {
        "l1": {"kernel": width[:, None], "bias": start},
        "l2": {"kernel": inner[None], "bias": inner},
        "l3": {"kernel": inner[:, None]},
    }
    return layers | changes


def schedules(folder):
    """Checkpoints of VDM's flax with a schedule that is learned."""
    one, row = np.ones((1, 1), np.float32), np.ones((1, 3), np.float32)
    bad = {
        "reversed": monotone((0.0, 5.0), l3={"kernel": one[:, :0]}),
        "flat": monotone((0.0, 5.0), l3={"kernel": np.zeros((4, 1), np.float32)}),
        "of-nan": monotone((np.nan, -13.3)), "of-infinity": monotone((np.inf, -13.3)),
        "start-of-nan": monotone((18, np.nan)),
        "wide": monotone((1e30, -13.3)),
        "weights-of-nan": monotone(l3={"kernel": one * np.nan * np.ones((4, 1))}),
        "layers-of-other-lengths": monotone(l2={"kernel": row, "bias": row[0]}),
        "bias-missing": monotone(l1={"kernel": one}),
        "kernel-missing": monotone(l3={}), "layer-as-number": monotone(l2=5),
        "layer-as-array": monotone(l2=row),
        "layer-missing": {k: v for k, v in monotone().items() if k != "l3"},
        "layer-more": monotone(l4={"kernel": one}),
        "first-of-three": monotone(l1={"kernel": row, "bias": row[0]}),
        "bias-as-text": monotone(l1={"kernel": one, "bias": "x"}),
        "of-no-numbers": monotone(n=0), "as-list": [monotone()],
        "biases-longer": monotone(l2={"kernel": row, "bias": one[0]}),
    }  # fmt: skip
    good = {"honest-monotone": monotone(), "honest-monotone-of-a-thousand": monotone(n=1000)}
    _, tensors = vdm_reference()
    for name, gamma in {**bad, **good}.items():
        place = writers.write_flax(folder / f"flax-{name}", tensors, None)
        state = writers.flax_state(tensors, None)
        state["ema_params"]["gamma"] = gamma
        (place / "ckpt-7.flax").write_bytes(writers.packed(state))
        yield Case(f"clocks/flax-{name}", place, "expert", 0 if name in good else REFUSED)
