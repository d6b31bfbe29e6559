"""EDM snapshots whose storages, each a stream of five pickles, or modules are not what they seem."""

import io
import pickle
import struct
from pathlib import Path

import torch
from tests.checkpoints import writers
from tests.faults.case import Case
from tests.faults.pickles import doubled, dumped, imported, text
from tests.faults.states import edm_reference

REFUSED = 4
PARTS = ("magic", "version", "system", "storage", "keys")
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every snapshot, written into ``folder``."""
    folder.mkdir(parents=True)
    made = []
    for name, content in {**streams(canary), **modules(), **amplified()}.items():
        path = folder / f"{name}.pkl"
        path.write_bytes(content)
        made.append(Case(f"storages/{name}", path, "expert", 0 if name.startswith("honest") else REFUSED))
    return made


# ---- the stream of a storage


def honest_parts():
    """An honest snapshot before and behind its first storage, and the parts of that."""
    whole = dumped({"ema": writers.edm_object(*edm_reference())}, 4)
    at = whole.index(MAGIC)
    size = int.from_bytes(whole[at - 4 : at], "little")
    assert whole[at - 5 : at - 4] == b"B"
    stream = io.BytesIO(whole[at : at + size])
    parts = {}
    for part in PARTS:
        begun = stream.tell()
        unpickler = pickle.Unpickler(stream)
        unpickler.persistent_load = lambda name: name
        unpickler.load()
        parts[part] = stream.getvalue()[begun : stream.tell()]
    parts["numbers"] = stream.read()
    return whole[: at - 5], parts, whole[at + size :]


def streams(canary):
    """Snapshots whose first storage has another part."""
    before, parts, behind = honest_parts()
    numel = struct.unpack("<q", parts["numbers"][:8])[0]

    def with_stream(content):
        return before + b"B" + struct.pack("<I", len(content)) + content + behind

    def with_parts(**changes):
        return with_stream(b"".join((parts | changes).values()))

    def stored(kind="FloatStorage", count=numel, key="0", view=b"N"):
        return (
            b"\x80\x02(" + text("storage") + imported("torch", kind) + text(key) + text("cpu")
            + b"\x8a\x08" + count.to_bytes(8, "little", signed=True) + view + b"tQ."
        )  # fmt: skip

    run = b"\x80\x02" + imported("builtins", "exec") + text(f"open({str(canary)!r}, 'w')") + b"\x85R."
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    again = b"\x80\x02" + imported("torch.storage", "_load_from_bytes") + b"C\x00\x85R."
    zipped = io.BytesIO()
    torch.save(torch.ones(3), zipped)
    whole = b"".join(parts.values())
    key = pickle.loads(parts["keys"])[0]
    return {
        "honest": with_parts(),
        "honest-key": with_parts(storage=stored(key="a"), keys=pickle.dumps(["a"], 2)),
        **{f"exec-as-{part}": with_parts(**{part: run}) for part in PARTS},
        "exec-as-persistent-id": with_parts(storage=run[:-1] + b"Q."),
        "exec-behind-the-numbers": with_parts(numbers=parts["numbers"] + run),
        "loads-bytes-within": with_parts(system=again),
        "magic-of-another": with_parts(magic=pickle.dumps(1, 2)),
        "version-of-another": with_parts(version=pickle.dumps(1002, 2)),
        "version-as-bomb": with_parts(version=b"\x80\x02" + doubled(100) + b"."),
        "big-endian": with_parts(system=pickle.dumps(system | {"little_endian": False}, 2)),
        "endian-of-one": with_parts(system=pickle.dumps(system | {"little_endian": 1}, 2)),
        "system-as-list": with_parts(system=pickle.dumps([1], 2)),
        "system-of-lists-in-lists": with_parts(system=b"\x80\x02" + b"]" * 10**6 + b"."),
        "storage-of-objects": with_parts(storage=stored("ObjectStorage")),
        "storage-of-complex-numbers": with_parts(storage=stored("ComplexFloatStorage")),
        "storage-of-other-numbers": with_parts(storage=stored("DoubleStorage")),
        "storage-of-more": with_parts(storage=stored(count=numel + 1)),
        "storage-of-less": with_parts(storage=stored(count=numel - 1)),
        "storage-of-2-to-the-62": with_parts(storage=stored(count=1 << 62)),
        "storage-of-less-than-nothing": with_parts(storage=stored(count=-numel)),
        "storage-that-is-a-view": with_parts(storage=stored(view=text("0") + b"K\x00K\x01\x87")),
        "storage-that-is-none": with_parts(storage=b"\x80\x02N."),
        "storage-under-no-name": with_parts(storage=stored(key="b")),
        "keys-of-two": with_parts(keys=pickle.dumps([key, "b"], 2)),
        "keys-of-none": with_parts(keys=pickle.dumps([], 2)),
        "keys-as-text": with_parts(keys=pickle.dumps(key, 2)),
        "keys-of-lists": with_parts(keys=pickle.dumps([[key]], 2)),
        "numbers-that-count-more": with_parts(numbers=struct.pack("<q", 1 << 40) + parts["numbers"][8:]),
        "numbers-cut-off": with_parts(numbers=parts["numbers"][:-4]),
        "numbers-without-count": with_parts(numbers=b""),
        "numbers-followed": with_parts(numbers=parts["numbers"] + bytes(4)),
        "zip-in-its-place": with_stream(zipped.getvalue()),
        "nothing-in-its-place": with_stream(b""),
        "stream-within-a-stream": with_stream(whole + whole),
        **{
            f"cut-off-{part}": with_stream(whole[: whole.index(content) + len(content) // 2])
            for part, content in parts.items()
        },
    }


# ---- modules


def plain(value):
    """Opcodes of a value, without a memo of its own."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, 2)
    pickler.fast = True
    pickler.dump(value)
    return stream.getvalue()[2:-1]


def mapping(**entries):
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def module(kind, state):
    """A persistent object, in opcodes, of a state in opcodes."""
    meta = mapping(type=text("class"), version=b"K\x06", class_name=text(kind), state=state)
    return imported("torch_utils.persistence", "_reconstruct_persistent_obj") + meta + b"\x85R"


def network(modules, **state):
    """A snapshot whose network has these modules, in opcodes."""
    config, _ = edm_reference()
    arguments = {k: v for k, v in config.items() if k not in ("precond", "model_type", "use_fp16")}
    arguments |= {"in_channels": 3, "out_channels": 3}
    inner = {"_init_kwargs": plain(arguments), "_init_args": b")", "_modules": modules} | state
    top = module("EDMPrecond", mapping(_modules=mapping(model=module("SongUNet", mapping(**inner)))))
    return b"\x80\x04" + mapping(ema=top) + b"."


def view(shape=(1,), strides=(1,)):
    """A tensor of the storage that the memo has at 0."""
    return (
        imported("torch._utils", "_rebuild_tensor_v2") + b"(h\x00K\x00" + plain(shape) + plain(strides)
        + b"\x89NtR"
    )  # fmt: skip


def blob(numbers=1000):
    """Opcodes that make a storage of bytes."""
    _, parts, _ = honest_parts()
    count = (
        b"\x80\x02(" + text("storage") + imported("torch", "FloatStorage") + text("0") + text("cpu")
        + plain(numbers) + b"NtQ."
    )  # fmt: skip
    changed = parts | {
        "storage": count, "keys": pickle.dumps(["0"], 2),
        "numbers": struct.pack("<q", numbers) + bytes(4 * numbers),
    }  # fmt: skip
    content = b"".join(changed.values())
    return b"B" + struct.pack("<I", len(content)) + content


def loaded(content):
    """The storage of bytes that are on the stack."""
    return imported("torch.storage", "_load_from_bytes") + content + b"\x85R"


def modules():
    """Networks whose modules nest, repeat or are none."""
    deep = mapping()
    for _ in range(300):
        deep = mapping(_modules=mapping(a=module("UNetBlock", deep)))
    twice = mapping()
    for i in range(40):  # each module is twice in the one above
        twice = mapping(_modules=mapping(a=module("UNetBlock", twice) + b"\x94", b=b"h" + bytes([i])))
    many = b"".join(text(f"a{i}") + module("UNetBlock", b"}") for i in range(25_000))
    # A module that is in itself: its state is in the memo (0), it is too (1), and its state gets it last.
    inner = module("UNetBlock", b"}\x94") + b"\x94"
    circle = mapping(a=inner, b=b"h\x00" + text("_modules") + mapping(a=b"h\x01") + b"s")
    storage = loaded(blob()) + b"\x94"
    first = mapping(a=storage)
    return {
        "modules-in-modules": network(mapping(a=module("UNetBlock", deep))),
        "modules-doubled": network(mapping(a=module("UNetBlock", twice))),
        "modules-without-end": network(b"}(" + many + b"u"),
        "module-in-itself": network(circle),
        "modules-as-list": network(b"]"),
        "modules-of-numbers": network(mapping(a=b"K\x05")),
        "parameters-as-list": network(mapping(), _parameters=b"]"),
        "parameters-of-records": network(mapping(), _parameters=mapping(a=module("X", b"}"))),
        "parameter-called-by-a-number": network(mapping(), _parameters=b"}K\x05N" + b"s"),
        "parameter-of-two-dots": network(
            mapping(), x=first, _parameters=b"}" + text("..map_layer0.weight") + view() + b"s"
        ),
        "parameter-called-by-a-megabyte": network(
            mapping(),
            x=first,
            _parameters=b"}X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + view() + b"s",
        ),
        "parameters-of-one-storage": network(
            mapping(), x=first,
            _parameters=b"}(" + b"".join(text(f"a{i}") + view((1000,)) for i in range(5000)) + b"u",
        ),
        "parameter-that-repeats-its-storage": network(
            mapping(), x=first, _parameters=mapping(a=view((1 << 10, 1 << 0), (0, 1)))
        ),
        "parameter-of-terabytes": network(
            mapping(), x=first, _parameters=mapping(a=view((1 << 20, 1 << 20), (0, 0)))
        ),
        "arguments-of-a-bomb": network(mapping(), _init_kwargs=mapping(img_resolution=doubled(60))),
        "arguments-in-lists": network(
            mapping(), _init_kwargs=plain({"img_resolution": 8, "in_channels": 3})[:-1]
            + text("attn_resolutions") + b"]" * 5000 + b"a" * 4999 + b"u",
        ),
        "arguments-by-place-as-list": network(mapping(), _init_args=b"]"),
        "buffers-not-persistent-as-list": network(mapping(), _non_persistent_buffers_set=b"]"),
    }  # fmt: skip


def amplified():
    """Little in the file, much work or memory: what the memo holds is used again and again."""
    pairs = b"](" + b"".join(plain((i, 0)) for i in range(1000)) + b"e\x94"
    ordered = imported("collections", "OrderedDict") + b"\x94"
    numbers = b"](" + b"".join(plain(i) for i in range(1000)) + b"e\x94"
    sets = imported("builtins", "set") + b"\x94"
    letters = b"X" + struct.pack("<I", 1 << 19) + b"a" * (1 << 19) + b"\x94"
    encode = imported("_codecs", "encode") + b"\x94"
    content = blob(1 << 20)
    small = blob(8)
    from_bytes = imported("torch.storage", "_load_from_bytes") + b"\x94"
    # A storage of 4 MB, made again for each of 400 tensors that take one number of it.
    hungry = network(
        mapping(),
        x=b"](" + content + b"\x94" + from_bytes + b"e",
        _parameters=b"}(" + b"".join(
            text(f"a{i}") + imported("torch._utils", "_rebuild_tensor_v2")
            + b"(h\x01h\x00\x85RK\x00K\x01\x85K\x01\x85\x89NtR"
            for i in range(400)
        ) + b"u",
    )  # fmt: skip
    _, parts, _ = honest_parts()
    padded = b"".join((parts | {"system": parts["system"][:-1] + b"\x94" * 100_000 + b"."}).values())
    slow = b"B" + struct.pack("<I", len(padded)) + padded
    return {
        "tables-made-again": b"\x80\x04](" + pairs + ordered + b"h\x01h\x00\x85R" * 50_000 + b"e.",
        "sets-made-again": b"\x80\x04](" + numbers + sets + b"h\x01h\x00\x85R" * 50_000 + b"e.",
        "bytes-made-again": b"\x80\x04](" + letters + encode + b"h\x01h\x00\x85R" * 2000 + b"e.",
        "storages-made-again": hungry,
        "streams-read-again": b"\x80\x04](" + small + b"\x94" + from_bytes
        + b"h\x01h\x00\x85R" * 50_000 + b"e.",
        "pickles-read-again": b"\x80\x04](" + slow + b"\x94" + from_bytes
        + b"h\x01h\x00\x85R" * 5000 + b"e.",
        "frozen-sets-of-many": b"\x80\x04](" + b"(" + b"K\x01" * 90_000 + b"\x91" + b"e.",
        "empty-sets": b"\x80\x04](" + b"\x8f" * 99_000 + b"e" + b"(" + b"\x8f" * 99_000 + b"e"
        + b"(" + b"\x8f" * 99_000 + b"e.",
    }  # fmt: skip
