"""Files of lucidrains' code whose tables of steps, names or running means are wrong; and honest ones."""

from pathlib import Path

import torch
from tests.checkpoints.public_files import lucidrains
from tests.faults.case import Case
from tests.faults.public_states import DIGITS, of_one_storage, reference, saved
from tests.faults.states import faulty

LUCID = None
TABLE, LOSS = "sqrt_recipm1_alphas_cumprod", "loss_weight"


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every file, written into ``folder``."""
    return list(saved(folder, "lucid_tables/model", lucid()))


def lucid():
    state = reference("lucidrains/v-sigmoid")
    weights = {key: value for key, value in state.items() if key.startswith("model.")}
    tables = {key: value for key, value in state.items() if key not in weights}
    whole = lucidrains(state)
    for name, changed in faulty(weights).items():
        yield name, lucidrains(changed | tables), LUCID
    table, n = tables[TABLE], len(tables[TABLE])
    bad = {
        "of-none": table[:0], "of-one": table[:1], "of-a-million": torch.linspace(0.01, 100, 10**6),
        "of-two-axes": table[None], "without-axes": table[0], "falling": table.flip(0), "flat": torch.ones(n),
        "of-nan": table * torch.nan, "of-infinity": table * torch.inf, "negative": -table,
        "of-zeros": table * 0,
        "of-flags": table.bool(), "of-another-length": table[: n // 2],
        "of-complex-numbers": table.to(torch.complex64),
    }  # fmt: skip
    for name, value in bad.items():
        yield f"steps-{name}", lucidrains(state | {TABLE: value}), "lucidrains:pred_v"
        if name not in ("negative", "of-a-million", "flat"):  # of ones are those of pred_noise
            yield f"loss-{name}", lucidrains(state | {LOSS: value}), LUCID
    yield "loss-negative", lucidrains(state | {LOSS: -tables[LOSS]}), LUCID
    for key in (TABLE, LOSS):
        yield f"missing-{key}", lucidrains({k: v for k, v in state.items() if k != key}), LUCID
    named = {
        "level-999999999": {"model.downs.999999999.3.weight": torch.ones(4, 4, 3, 3)},
        "level-of-5000-digits": {f"model.downs.{DIGITS}.3.weight": torch.ones(1)},
        "level-of-no-digits": {"model.downs.x.3.weight": torch.ones(1)},
        "level-of-another-digit": {"model.downs.\u0661.3.weight": torch.ones(8, 4, 3, 3)},
        "levels-of-300": {
            f"model.downs.{i}.{part}": torch.ones(shape)
            for i in range(300)
            for part, shape in {"3.1.weight": (4, 1), "3.weight": (4, 1), "2.mem_kv": (2, 2, 4, 4),
                                "2.to_qkv.weight": (24, 1)}.items()
        },
        "memory-without-axes": {"model.downs.0.2.mem_kv": torch.tensor(1.0)},
        "memory-of-no-heads": {"model.downs.0.2.mem_kv": torch.ones(2, 0, 4, 4)},
        "memory-of-five": {"model.downs.0.2.mem_kv": torch.ones(2, 2, 4, 5)},
        "input-of-no-channels": {"model.init_conv.weight": torch.ones(4, 0, 7, 7)},
        "input-of-one-axis": {"model.init_conv.weight": torch.ones(4)},
        "input-of-five-channels": {"model.init_conv.weight": torch.ones(4, 5, 7, 7)},
        "output-of-no-channels": {"model.final_conv.weight": torch.ones(0, 4, 1, 1)},
        "output-without-axes": {"model.final_conv.weight": torch.tensor(1.0)},
        "dim-of-none": {"model.time_mlp.1.weight": torch.ones(16, 0)},
        "dim-of-one-axis": {"model.time_mlp.1.weight": torch.ones(16)},
        "of-integers": {key: value.long() for key, value in weights.items()},
    }  # fmt: skip
    for name, added in named.items():
        yield name, lucidrains(state | added), LUCID
    online = {key: value for key, value in whole["ema"].items() if not key.startswith("ema_model.")}
    for name, value in {
        "ema-as-list": whole | {"ema": list(whole["ema"].values())},
        "ema-missing": {key: value for key, value in whole.items() if key != "ema"},
        "ema-of-nothing": whole | {"ema": None},
        "ema-without-mean": whole | {"ema": online},
        "ema-of-numbers": whole | {"ema": dict.fromkeys(whole["ema"], 1)},
        "step-of-nan": with_step(whole, torch.tensor(torch.nan)),
        "honest": whole,
        "honest-old": whole,
        "honest-step-of-nothing": with_step(whole, torch.ones(0)),
        "honest-loss-of-its-own": lucidrains(state | {LOSS: tables[LOSS] + 7}),
        "honest-one-storage": {"ema": {f"ema_model.{k}": v for k, v in of_one_storage(state).items()}},
    }.items():
        yield name, value, "lucidrains:pred_v" if name.endswith("its-own") else LUCID


def with_step(whole, step):
    return whole | {"ema": whole["ema"] | {"step": step}}
