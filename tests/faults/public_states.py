"""Files of torch.save of the public families whose states, tables or words are wrong; and honest ones."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from tests.checkpoints.public_files import REFERENCE, SAID, score_sde
from tests.faults.case import Case
from tests.faults.states import faulty

REFUSED = 4
OPENAI, FLOW = SAID["openai/guided-cond"], SAID["torchcfm/icfm"]
VP, VE = "score_sde:vp,size=8", "score_sde:ve,size=8"
DIGITS = "9" * 5000  # more than Python makes a number of


def reference(name):
    """The state dict of a small network."""
    return load_file(REFERENCE / name / "weights.safetensors")


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every file, written into ``folder``."""
    families = {"openai": openai, "torchcfm": torchcfm, "score_sde": means}
    return [
        case
        for family, generate in families.items()
        for case in saved(folder / family, f"public_states/{family}", generate())
    ]


def saved(folder, family, values):
    """Names, values and words as files of torch.save: honest by their names, else refused."""
    folder.mkdir(parents=True)
    for name, value, words in values:
        path = folder / f"{name}.pt"
        torch.save(value, path, _use_new_zipfile_serialization="old" not in name)
        code = 0 if name.startswith("honest") else REFUSED
        yield Case(f"{family}-{name}", path, "expert", code, {"read_as": words})


def parameters(state):
    return {key: torch.nn.Parameter(value) for key, value in state.items()}


def of_one_storage(state, n=1):
    """The same numbers as views of ``n`` storages, one behind the other."""
    result = {}
    for part in range(n):
        keys = sorted(state)[part::n]
        flat = torch.cat([state[key].reshape(-1) for key in keys])
        numbers = iter(flat.split([state[key].numel() for key in keys]))
        result |= {key: next(numbers).view(state[key].shape) for key in keys}
    return result


def recast(state, dtype):
    return {key: value.to(dtype) for key, value in state.items()}


# ---- OpenAI's network, bare or in a file of TorchCFM


def names(state):
    """State dicts with names or shapes that a reader could count, loop or divide by."""
    block = {key: value for key, value in state.items() if key.startswith("output_blocks.0.0.")}

    def at(numbers, side="output"):
        new = key_of(block, "output_blocks.0.0.", f"{side}_blocks.{{}}.0.")
        return state | {key.format(n): value for n in numbers for key, value in new.items()}

    first, width = "input_blocks.0.0.weight", state["time_embed.0.weight"]
    wide = at([1 << 17]) | at([(1 << 18) - 1]) | at([(1 << 18) - 1], "input")
    return {
        "input-block-99999999": at([99999999], "input"),
        "output-block-99999999": at([99999999]),
        "both-blocks-99999999": at([99999999]) | at([99999999], "input"),
        "blocks-of-65536-a-level": wide,
        "block-of-5000-digits": state | {f"output_blocks.{DIGITS}.0.out_layers.3.weight": torch.ones(3)},
        "block-of-another-digit": at(["\u0663"]),
        "block-of-a-sign": at(["-1"]),
        "blocks-of-2000": at(range(4, 2000)) | at(range(4, 2000), "input"),
        "upsamplers-of-2000": state
        | {f"output_blocks.{n}.1.conv.weight": torch.ones(1) for n in range(2000)},
        "first-of-one-axis": state | {first: torch.ones(4)},
        "first-without-channels": state | {first: torch.ones(4, 0, 3, 3)},
        "first-without-axes": state | {first: torch.tensor(1.0)},
        "first-of-nothing": state | {first: None},
        "first-as-number": state | {first: 7},
        "first-alone": {first: state[first]},
        "embedding-of-no-width": state | {"time_embed.0.weight": torch.ones(16, 0)},
        "embedding-of-one-axis": state | {"time_embed.0.weight": width.reshape(-1)},
        "embedding-without-axes": state | {"time_embed.0.weight": torch.tensor(1.0)},
        "out-of-seven": state | {"out.2.weight": torch.ones(7, 4, 3, 3), "out.2.bias": torch.ones(7)},
        "out-of-nine": state | {"out.2.weight": torch.ones(9, 4, 3, 3), "out.2.bias": torch.ones(9)},
        "out-without-axes": state | {"out.2.weight": torch.tensor(1.0)},
        "labels-without-axes": state | {"label_emb.weight": torch.tensor(1.0)},
        "labels-of-no-class": state | {"label_emb.weight": torch.ones(0, 16)},
        "middle-without-axes": state | {"middle_block.0.emb_layers.1.weight": torch.tensor(1.0)},
        "names-of-numbers": dict(enumerate(state.values())) | {first: state[first]},
        "names-of-a-megabyte": state | {"a" * 1_000_000: torch.ones(1)},
        "names-without-end": state | {f"a{i}": torch.ones(1) for i in range(5000)},
        "wrapped-twice": state | {f"module.{key}": value for key, value in state.items()},
        "of-integers": recast(state, torch.int64),
        "of-bytes": recast(state, torch.uint8),
        "of-flags": recast(state, torch.bool),
        "one-of-integers": state | {first: state[first].long()},
    }


def key_of(entries, old, new):
    """The same entries under other names."""
    return {new + key.removeprefix(old): value for key, value in entries.items()}


def openai():
    state = reference("openai/guided-cond")
    for name, changed in (faulty(state) | names(state)).items():
        yield name, changed, OPENAI
    for name, value in {
        "as-list": [state],
        "in-lists": {"ema": [state]},
        "raw": {"model": state},
        "raw-of-many": {f"model{i}": state for i in range(3)},
        "complex": recast(state, torch.complex64),
        "itself": {**state, "state": state},
    }.items():
        yield f"honest-{name}" if name == "itself" else name, value, OPENAI
    yield "words-of-nothing", state, None
    honest = {
        "parameters": parameters(state),
        "old-container": state,
        "one-storage": of_one_storage(state),
        "two-storages": of_one_storage(state, 2),
        "two-old-storages-of-parameters": parameters(of_one_storage(state, 2)),
        "half": recast(state, torch.float16),
        "bfloat16": recast(state, torch.bfloat16),
        "double": recast(state, torch.float64),
        "strides": {
            key: value.t().contiguous().t() if value.dim() == 2 else value for key, value in state.items()
        },
        "wrapped": {f"module.{key}": value for key, value in state.items()},
    }
    for name, value in honest.items():
        yield f"honest-{name}", value, OPENAI


def torchcfm():
    state = reference("torchcfm/icfm")
    raw = recast(state, torch.float32)
    for name, changed in faulty(state).items():
        yield name, {"net_model": raw, "ema_model": changed, "step": 2}, FLOW
    for name, value in {
        "mean-as-list": {"net_model": raw, "ema_model": list(state.values())},
        "mean-of-nothing": {"net_model": raw, "ema_model": None},
        "mean-of-no-tensor": {"net_model": raw, "ema_model": dict.fromkeys(state, 1)},
        "mean-of-lists": {"net_model": raw, "ema_model": {key: [value] for key, value in state.items()}},
        "mean-missing": {"net_model": raw, "step": 2},
        "mean-under-a-number": {1: state, 2: raw},
        "mean-in-a-mean": {"ema_model": {"ema_model": state}},
        "mean-of-nan": {"ema_model": {key: value * torch.nan for key, value in state.items()}},
        "mean-of-integers": {"ema_model": recast(state, torch.int32)},
        "of-4096-channels-of-one-number": {
            "ema_model": state | {"input_blocks.0.0.weight": torch.ones(1).expand(4096, 3, 3, 3)}
        },
        "honest": {"net_model": raw, "ema_model": state, "sched": {}, "optim": {}, "step": 2},
        "honest-old": {"net_model": raw, "ema_model": state},
        "honest-two-storages": {"net_model": of_one_storage(raw), "ema_model": of_one_storage(state)},
    }.items():
        yield name, value, FLOW


# ---- score_sde: means without names


def means():
    state = reference("score-sde/like-vp")
    trained = {key: value for key, value in state.items() if key != "sigmas"}
    whole = score_sde(state)
    shadow = whole["ema"]["shadow_params"]
    model = whole["model"]
    for name, changed in faulty(trained).items():
        yield name, score_sde(changed | {"sigmas": state["sigmas"]}), VP
    lists = {
        "means-of-none": [], "means-too-few": shadow[1:], "means-too-many": [*shadow, shadow[0]],
        "means-doubled": shadow * 2, "means-turned-round": shadow[::-1], "means-in-a-list": [shadow],
        "means-of-nothing": [None] * len(shadow), "means-of-numbers": [1.0] * len(shadow),
        "means-as-tuple": tuple(shadow), "means-as-dict": dict(enumerate(shadow)),
        "means-as-tensor": shadow[0],
        "means-as-text": "shadow", "means-without-end": [None] * 200_000,
        "means-flat": [x.reshape(-1) for x in shadow],
        "means-of-integers": [x.long() for x in shadow], "means-of-nan": [x * torch.nan for x in shadow],
    }  # fmt: skip
    for name, value in lists.items():
        yield name, whole | {"ema": {"shadow_params": value}}, VP
    for name, value in {
        "ema-as-list": whole | {"ema": shadow},
        "ema-of-nothing": whole | {"ema": None},
        "ema-missing": {"model": model},
        "model-as-list": whole | {"model": list(model.items())},
        "model-of-numbers": whole | {"model": dict.fromkeys(model, 1)},
        "model-wrapped-and-bare": with_names(whole, {"all_modules.0.bias": state["all_modules.0.bias"]}),
        "optimizer-of-itself": whole | {"optimizer": looped()},
    }.items():
        yield (f"honest-{name}" if name.startswith("optimizer") else name), value, VP
    one = torch.ones(1)
    for name, key in {
        "module-10000000": "all_modules.10000000.weight",
        "module-of-5000-digits": f"all_modules.{DIGITS}.weight",
        "module-of-another-digit": "all_modules.\u0663.Conv_0.bias",
        "module-of-a-zero-in-front": "all_modules.03.Conv_0.bias",
        "module-without-number": "all_modules.x.weight",
        "module-without-member": "all_modules.7",
        "module-18": "all_modules.18.weight",
        "member-unknown": "all_modules.3.Conv_9.weight",
        "name-of-another-network": "downs.0.weight",
    }.items():
        value = state.get("all_modules.3.Conv_0.bias") if "Conv_0" in key else one
        yield name, with_names(whole, {key: value}), VP
    noise = reference("score-sde/ncsnpp-ve")
    for name, sigmas in {
        "of-nan": [torch.nan] * 3, "of-zero": [50.0, 0.0], "of-infinity": [torch.inf, 0.01],
        "negative": [-1.0, 50.0], "of-one-value": [1.0, 1.0], "without-axes": 1.0, "of-1e30": [1e30, 0.01],
        "of-two-axes": [[50.0, 0.01]] * 2,
    }.items():  # fmt: skip
        yield f"sigmas-{name}", score_sde(noise | {"sigmas": torch.tensor(sigmas)}), VE
    yield (
        "frequencies-of-nan",
        score_sde(noise | {"all_modules.0.W": noise["all_modules.0.W"] * torch.nan}),
        VE,
    )
    yield "frequencies-of-another-length", score_sde(noise | {"all_modules.0.W": torch.ones(3)}), VE
    yield "honest-vp", whole, VP
    yield "honest-vp-old", whole, VP
    yield "honest-ve-old", score_sde(noise), VE
    yield "honest-ve-sigmas-doubled", score_sde(noise | {"sigmas": noise["sigmas"].double()}), VE
    yield "honest-one-storage-of-means", whole | {"ema": {"shadow_params": in_one(shadow)}}, VP


def with_names(whole, added):
    """The file with more weights and their means."""
    shadow = [*whole["ema"]["shadow_params"], *added.values()]
    return whole | {"model": whole["model"] | added, "ema": {"shadow_params": shadow}}


def in_one(tensors):
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def looped():
    value: dict = {}
    value["state"] = [value]
    return value
