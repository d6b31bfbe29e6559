"""Files of torch's old container, of many storages: cut, counted wrongly, or with a pickle that runs."""

import io
import pickle
import struct
from pathlib import Path

import torch
from tests.faults.case import Case
from tests.faults.pickles import Run, doubled, imported, text
from tests.faults.public_states import OPENAI, of_one_storage, reference

REFUSED = 4
FOUR = struct.pack("<q", 4) + bytes(16)
PARTS = ("magic", "version", "system", "state", "keys")


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every file, written into ``folder``."""
    folder.mkdir(parents=True)
    made = []
    for name, content in attacks(canary).items():
        path = folder / f"{name}.pt"
        path.write_bytes(content)
        code = 0 if name.startswith("honest") else REFUSED
        made.append(Case(f"legacy_files/{name}", path, "expert", code, {"read_as": OPENAI}))
    return made


class Reader(pickle.Unpickler):
    """To find where a pickle of our own ends; its tensors are none."""

    def persistent_load(self, name):
        return None

    def find_class(self, module, name):
        return dict if name == "OrderedDict" else lambda *_: None


def parts(value):
    """The five pickles of a file of the old format, and what is behind them."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    stream.seek(0)
    found = {}
    for part in PARTS:
        begun = stream.tell()
        Reader(stream).load()
        found[part] = stream.getvalue()[begun : stream.tell()]
    return found | {"numbers": stream.read()}


def storage(key="0", numel=4, kind="FloatStorage", more=b"N"):
    """A storage as a persistent id names it, in opcodes; of five entries or six."""
    return (
        b"(" + text("storage") + imported("torch", kind) + text(key) + text("cpu")
        + b"\x8a\x08" + numel.to_bytes(8, "little", signed=True) + more + b"tQ"
    )  # fmt: skip


def view(of, offset=0, shape=(4,), strides=(1,)):
    """A tensor of a storage with any claims, in opcodes."""

    def integers(values):
        return b"(" + b"".join(b"\x8a\x09" + v.to_bytes(9, "little", signed=True) for v in values) + b"t"

    start = b"\x8a\x09" + offset.to_bytes(9, "little", signed=True)
    made = imported("torch._utils", "_rebuild_tensor_v2") + b"(" + of + start + integers(shape)
    return made + integers(strides) + b"\x89NtR"


def attacks(canary):
    state = reference("openai/guided-cond")
    whole, halves = parts(state), parts({key: value.half() for key, value in state.items()})
    file = b"".join(whole.values())
    keys = pickle.loads(whole["keys"])
    sizes = lengths(whole["numbers"])
    bounds = [len(file) - len(whole["numbers"]) + sum(sizes[:i]) for i in range(len(sizes) + 1)]
    at = dict(zip(PARTS, (sum(len(whole[p]) for p in PARTS[:i]) for i in range(5)), strict=True))

    def with_parts(**changed):
        return b"".join((whole | changed).values())

    def with_keys(keys):
        return with_parts(keys=pickle.dumps(keys, 2))

    def with_numbers(change):
        return with_parts(numbers=change(whole["numbers"]))

    def counted(n, storage=0):
        begin = sum(sizes[:storage])
        return with_numbers(lambda b: b[:begin] + struct.pack("<q", n) + b[begin + 8 :])

    def of_tensor(value, keys=("0",), numbers=FOUR):
        state = b"\x80\x02}" + text("input_blocks.0.0.weight") + value + b"s."
        return with_parts(state=state, keys=pickle.dumps(list(keys), 2), numbers=numbers)

    run = pickle.dumps(Run(exec, f"open({str(canary)!r}, 'w')"), 2)
    nested = b"\x80\x02" + imported("torch.storage", "_load_from_bytes") + b"C\x00\x85R."
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    many = b"".join(text(f"a{i}") + view(storage()) for i in range(4000))
    described = view(storage()) + b"s" + text("b") + view(storage(kind="IntStorage"))
    claims = {
        "offset-behind-the-end": view(storage(), offset=1),
        "offset-negative": view(storage(), offset=-1),
        "offset-of-2-to-the-62": view(storage(), offset=1 << 62),
        "strides-behind-the-end": view(storage(), shape=(2, 2), strides=(3, 1)),
        "strides-negative": view(storage(), offset=3, strides=(-1,)),
        "strides-too-few": view(storage(), shape=(2, 2)),
        "shape-negative": view(storage(), shape=(-4,)),
        "shape-of-terabytes": view(storage(), shape=(1 << 40,), strides=(0,)),
        "shape-whose-product-wraps": view(storage(), shape=(1 << 32, 1 << 32), strides=(0, 0)),
        "axes-without-end": view(storage(), shape=(1,) * 200, strides=(1,) * 200),
        "storage-negative": view(storage(numel=-4)),
        "storage-of-2-to-the-62": view(storage(numel=1 << 62)),
        "storage-of-more": view(storage(numel=5)),
        "storage-of-less": view(storage(numel=3), shape=(3,)),
        "storage-of-objects": view(storage(kind="ObjectStorage")),
        "storage-of-complex-numbers": view(storage(kind="ComplexFloatStorage")),
        "storage-of-quantised-numbers": view(storage(kind="QInt8Storage")),
        "storage-of-doubles": view(storage(kind="DoubleStorage")),
        "storage-that-is-a-view": view(storage(more=b"(" + text("1") + b"K\x00K\x04t")),
        "storage-of-seven-entries": view(storage(more=b"NN")),
        "storage-under-another-name": view(storage(key="1")),
        "storage-in-two-ways": described,
        "storage-of-a-bomb": view(doubled(60) + b"Q"),
        "storage-that-is-none": view(b"NQ"),
        "storage-with-another-in-it": view(storage(more=storage(key="1"))),
        "views-without-end": view(storage()) + b"s(" + many + b"u" + text("z") + b"N",
        "itself": b"]\x94h\x00a",
    }  # fmt: skip
    cuts = at | {f"storage-{i}": bounds[i] for i in range(0, len(sizes), 18)}
    return {
        **{f"tensor-{name}": of_tensor(value) for name, value in claims.items()},
        **{f"cut-off-before-{name}": file[: max(place, 16)] for name, place in cuts.items()},
        **{f"cut-off-within-{name}": file[: place + 5] for name, place in cuts.items() if place},
        "cut-off-by-a-byte": file[:-1],
        "followed-by-a-byte": file + b"\0",
        "followed-by-itself": file + file,
        "followed-by-a-zip": file + b"PK\5\6" + bytes(18),
        **{f"runs-as-{part}": with_parts(**{part: run}) for part in PARTS},
        **{f"nested-as-{part}": with_parts(**{part: nested}) for part in PARTS[1:]},
        "runs-behind": file + run,
        "magic-of-another": with_parts(magic=pickle.dumps(7, 2)),
        "version-of-another": with_parts(version=pickle.dumps(1000, 2)),
        "version-of-a-bomb": with_parts(version=b"\x80\x02" + doubled(100) + b"."),
        "big-endian": with_parts(system=pickle.dumps(system | {"little_endian": False}, 2)),
        "endian-of-one": with_parts(system=pickle.dumps(system | {"little_endian": 1}, 2)),
        "system-as-list": with_parts(system=pickle.dumps([], 2)),
        "state-of-none": with_parts(state=pickle.dumps(None, 2)),
        "keys-of-none": with_keys([]),
        "keys-too-few": with_keys(keys[1:]),
        "keys-too-many": with_keys([*keys, "x"]),
        "keys-doubled": with_keys([keys[1], *keys[1:]]),
        "keys-turned-round": with_keys(keys[::-1]),
        "keys-of-numbers": with_keys([int(key) for key in keys]),
        "keys-of-bytes": with_keys([key.encode() for key in keys]),
        "keys-of-lists": with_keys([[key] for key in keys]),
        "keys-as-tuple": with_keys(tuple(keys)),
        "keys-as-dict": with_keys(dict.fromkeys(keys)),
        "keys-without-end": with_keys(["0"] * 100_000),
        "count-of-one-more": counted(len(whole["numbers"]) // 4, 0),
        "count-of-none": counted(0),
        "count-negative": counted(-1, 3),
        "count-of-2-to-the-62": counted(1 << 62, 5),
        "numbers-of-none": with_numbers(lambda _: b""),
        "numbers-without-the-first": with_numbers(lambda b: b[sizes[0] :]),
        "honest": file,
        "honest-two-storages": b"".join(parts(of_one_storage(state, 2)).values()),
        "honest-half": b"".join(halves.values()),
    }  # fmt: skip


def lengths(numbers):
    """Bytes that each storage of floats takes, with its count."""
    found = []
    while sum(found) < len(numbers):
        begin = sum(found)
        found.append(8 + 4 * int.from_bytes(numbers[begin : begin + 8], "little"))
    return found
