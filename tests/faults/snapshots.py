"""Snapshots of EDM's and EDM2's networks whose arguments, tables or modules are not what they seem."""

import io
import pickle
import types
from functools import cache
from itertools import cycle
from pathlib import Path

import torch
from tests.checkpoints import writers
from tests.checkpoints.public_files import REFERENCE, SAID
from tests.faults.case import Case
from tests.faults.pickles import Run, touch

REFUSED = 4
KINDS = {
    "vp": "edm-nets/vp", "ve": "edm-nets/ve", "iddpm": "edm-nets/iddpm", "adm": "edm-nets/adm",
    "edm2": "edm2/cond",
}  # fmt: skip
NAN, INF = float("nan"), float("inf")


class Module:
    """A persistent object, whose ``meta`` is written again as it was read."""

    def __init__(self, meta):
        self.meta = meta

    def __reduce__(self):
        return writers.reconstruct, (self.meta,)

    @property
    def state(self):
        return self.meta["state"]

    @property
    def parts(self):
        return self.state["_modules"]


class EasyDict(dict):
    """The dict of dnnlib."""


EasyDict.__module__ = "dnnlib.util"


class Reader(pickle.Unpickler):
    """Of the references, which this repository wrote: EDM's classes as the two above."""

    def find_class(self, module, name):
        ours = {"_reconstruct_persistent_obj": Module, "EasyDict": EasyDict}
        return ours[name] if name in ours else super().find_class(module, name)


@cache
def loaded(kind):
    return Reader(io.BytesIO((REFERENCE / KINDS[kind] / "checkpoint.pkl").read_bytes())).load()


def snapshot(kind):
    """All that a reference holds, to be changed."""
    return cloned(loaded(kind))


def cloned(value):
    """The same but for its tensors, which stay."""
    if isinstance(value, Module):
        return Module(cloned(value.meta))
    if isinstance(value, dict):
        return type(value)((key, cloned(entry)) for key, entry in value.items())
    if isinstance(value, torch.nn.ModuleDict):
        made = torch.nn.ModuleDict()
        made.__dict__["_modules"] = cloned(value._modules)
        return made
    return value


def dumped(top, protocol=4):
    """The pickle of a snapshot."""
    stream = io.BytesIO()
    dnnlib = types.ModuleType("dnnlib.util")
    dnnlib.EasyDict = EasyDict
    kept = dict(writers.sys.modules)
    writers.sys.modules |= {"dnnlib": types.ModuleType("dnnlib"), "dnnlib.util": dnnlib}
    try:
        with writers.edm_modules():
            pickle.Pickler(stream, protocol).dump(top)
    finally:
        for name in ("dnnlib", "dnnlib.util"):
            writers.sys.modules.pop(name)
            writers.sys.modules |= {name: kept[name]} if name in kept else {}
    return stream.getvalue()


def network(top):
    parts = top["ema"].parts
    return parts["model"] if "model" in parts else parts["unet"]


# Arguments of every network, in place of its own.
ARGUMENTS = {
    "img_resolution": {"of-none": 0, "negative": -8, "of-2-to-the-31": 1 << 31, "odd": 7,
    "text": "8", "nothing": None,
                       "of-65535": 65535, "one": 1, "flag": True},
    "channel_mult": {"of-a-million": [1] * 1_000_000, "of-none": [], "of-zero": [0, 0], "negative": [-1, 2],
                     "of-fractions": [0.5, 1.5], "of-nan": [NAN, 1], "text": "12", "of-lists": [[1], [2]],
                     "of-2-to-the-40": [1 << 40, 1], "number": 2, "of-64-levels": [1] * 64},
    "num_blocks": {"of-a-billion": 10**9, "of-none": 0, "negative": -1, "fraction": 1.5, "nan": NAN,
    "text": "1",
                   "of-99": 99, "list": [1], "flag": True, "of-400-digits": 10**400},
    "model_channels": {"of-none": 0, "negative": -4, "of-2-to-the-40": 1 << 40, "of-65536": 1 << 16,
    "nan": NAN},
    "label_dim": {"negative": -3, "of-a-billion": 10**9, "nan": NAN, "of-another": 5, "text": "10"},
    "attn_resolutions": {"of-a-million": [8] * 1_000_000, "text": "all", "negative": [-4], "of-nan": [NAN]},
}  # fmt: skip
# Attributes of the preconditioning, by its kind.
OUTER = {
    "vp": {"beta_min": (0, -1, NAN, INF, "0.1", None, True, 10**400, 1e300), "beta_d": (0, -20, NAN, INF, []),
           "M": (0, 1, -1000, NAN, INF, "1000"), "sigma_min": (0, -1, NAN, INF),
           "sigma_max": (0, NAN, INF)},
    "ve": {"sigma_min": (0, -1, NAN, INF, 200.0, "0.02"), "sigma_max": (0, NAN, INF, 0.01, 1e300)},
    "adm": {"sigma_data": (0, -1, NAN, INF, "0.5", None, True)},
    "edm2": {"sigma_data": (0, -1, NAN, INF)},
}  # fmt: skip
U = {
    "of-none": lambda u: u[:0], "of-two": lambda u: u[:2],
    "of-a-million": lambda u: torch.linspace(9, 0, 1_000_000),
    "rising": lambda u: u.flip(0), "flat": torch.ones_like, "of-nan": lambda u: u * NAN,
    "of-zeros": torch.zeros_like,
    "of-infinity": lambda u: u * INF, "negative": lambda u: -u, "of-two-axes": lambda u: u[None],
    "without-axes": lambda u: u[0], "of-integers": lambda u: u.long(), "of-flags": lambda u: u > 1,
    "with-a-hole": lambda u: torch.where(torch.arange(len(u)) == 500, torch.zeros(()), u),
}  # fmt: skip


def changes(canary):
    """Snapshots, each as a name and what is done to an honest one; all are refused."""
    turn = cycle(("vp", "adm", "edm2"))  # the two others have the networks of the first two
    for key, values in ARGUMENTS.items():
        for name, value in values.items():

            def change(top, key=key, value=value):
                network(top).state["_init_kwargs"] = {**network(top).state["_init_kwargs"], key: value}

            yield "vp" if key == "attn_resolutions" else next(turn), f"{key}-{name}", change
    for kind, table in OUTER.items():
        for key, values in table.items():
            for i, value in enumerate(values):

                def change(top, key=key, value=value):
                    top["ema"].state[key] = value

                yield kind, f"{key}-{i}", change
    for name, make in U.items():
        yield (
            "iddpm",
            f"u-{name}",
            lambda top, make=make: top["ema"].state["_buffers"].update(u=make(buffer(top))),
        )
    yield "iddpm", "u-missing", lambda top: top["ema"].state["_buffers"].pop("u")
    yield "iddpm", "u-as-list", lambda top: top["ema"].state["_buffers"].update(u=[1.0, 0.5, 0.0])
    for heads in (1, 3, 4, 4096, 1 << 62):
        yield "adm", f"heads-{heads}-in-one-block", lambda top, heads=heads: attend(top, heads)
    for heads in (0, -1, 4096, "2", None):
        yield "adm", f"heads-{heads}-in-all-blocks", lambda top, heads=heads: attend(top, heads, every=True)
    turn = cycle(KINDS)
    for name, change in damaged(canary).items():
        yield next(turn), name, change


def buffer(top):
    return top["ema"].state["_buffers"]["u"]


def attend(top, heads, *, every=False):
    """Another number of heads in the first block that attends, or in every one."""
    blocks = [b for side in ("enc", "dec") for b in network(top).parts[side]._modules.values()]
    for block in [block for block in blocks if block.state.get("num_heads")][: None if every else 1]:
        block.state["num_heads"] = heads


def damaged(canary):
    """What may be wrong with any of them."""

    def every(top, change):
        layer = next(iter(network(top).parts["dec"]._modules.values()))
        states = [part.state["_parameters"] for part in (layer, *layer.parts.values())]
        change(*next((s, k) for s in states for k, value in s.items() if value is not None and value.dim()))

    def inner(key, value):
        return lambda top: network(top).state.update({key: value})

    def numbers(change):
        def weigh(state, key):
            value = state[key].detach()
            state[key] = torch.nn.Parameter(change(value), requires_grad=False)

        return lambda top: every(top, weigh)

    return {
        "ema-as-list": lambda top: top.update(ema=[top["ema"]]),
        "ema-of-nothing": lambda top: top.update(ema=None),
        "ema-as-its-network": lambda top: top.update(ema=network(top)),
        "of-another-class": lambda top: top["ema"].meta.update(class_name="GANPrecond"),
        "network-of-another-class": lambda top: network(top).meta.update(class_name="os.system"),
        "version-7": lambda top: top["ema"].meta.update(version=7),
        "weights-of-nan": numbers(lambda value: value * NAN),
        "weights-of-infinity": numbers(lambda value: value + INF),
        "weights-of-integers": numbers(lambda value: value.long()),
        "weights-of-another-shape": numbers(lambda value: value[..., :-1]),
        "weights-of-one-number": numbers(lambda value: value.reshape(-1)[:1].expand(1 << 20)[: 1 << 10]),
        "weights-missing": lambda top: every(top, lambda state, key: state.pop(key)),
        "weights-of-complex-numbers": numbers(lambda value: value.to(torch.complex64)),
        "weight-twice": lambda top: every(top, lambda state, key: state.update({f"{key}.again": state[key]})),
        "without-parts": lambda top: network(top).state.update(_modules={}),
        "arguments-as-list": inner("_init_kwargs", [1]),
        "arguments-unknown": inner("_init_kwargs", {"evil": 1, "img_resolution": 8, "in_channels": 3}),
        "runs-beside": lambda top: top.update(loss_fn=Run(exec, f"open({str(canary)!r}, 'w')")),
        "runs-in-an-argument": inner("_init_kwargs", {"img_resolution": Run(eval, touch(canary))}),
        "runs-as-an-easy-dict": lambda top: top.update(training_options=EasyDict(a=Run(exec, touch(canary)))),
    }  # fmt: skip


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every snapshot, written into ``folder``."""
    folder.mkdir(parents=True)
    made = []

    def case(name, content, code=REFUSED, words=None):
        path = folder / f"{name}.pkl"
        path.write_bytes(content)
        made.append(Case(f"snapshots/{name}", path, "expert", code, {"read_as": words}))

    for kind, name, change in changes(canary):
        top = snapshot(kind)
        change(top)
        case(f"{kind}-{name}", dumped(top))
    for kind, name in KINDS.items():
        for protocol in (2, 5):
            case(f"{kind}-honest-{protocol}", dumped(snapshot(kind), protocol), 0, SAID[name])
        whole = (REFERENCE / name / "checkpoint.pkl").read_bytes()
        for i in range(5):
            case(f"{kind}-cut-off-{i}", whole[: max(3, len(whole) * i // 5)])
    return made
