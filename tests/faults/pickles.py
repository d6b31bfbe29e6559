"""Pickles that would run code, grow without end or lie, in the place of an EDM snapshot; and honest ones."""

import builtins
import io
import os
import pickle
import pickletools
import struct
from pathlib import Path

import torch
from tests.checkpoints import writers
from tests.faults.case import Case
from tests.faults.states import edm_reference

REFUSED = 4
STOP = b"."
DEEP = 1_000_000
# Every opcode of the format that imports, calls, builds or reaches outside, and what it needs before it.
MARK = b"("


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every pickle, written into ``folder``."""
    folder.mkdir(parents=True)
    attacks = {
        **imports(canary),
        **calls(canary),
        **opcodes(),
        **nesting(),
        **sizes(),
        **snapshots(canary),
        **cut_off(),
    }
    made = []
    for name, content in attacks.items():
        path = folder / f"{name}.pkl"
        path.write_bytes(content)
        made.append(Case(f"pickles/{name}", path, "expert", REFUSED))
    return made + honest(folder)


def text(value):
    """A short unicode string."""
    encoded = value.encode()
    return b"\x8c" + bytes([len(encoded)]) + encoded


def imported(module, name):
    return text(module) + text(name) + b"\x93"


def touch(canary):
    """The command that an attack would run."""
    return f"touch {canary}"


def imports(canary):
    """A global of every dangerous kind, called on the canary."""
    command, path = touch(canary), str(canary)
    source = f"open({path!r}, 'w').close()"
    targets = {
        ("os", "system"): command, ("posix", "system"): command, ("nt", "system"): command,
        ("os", "popen"): command, ("os", "remove"): path, ("shutil", "rmtree"): path,
        ("subprocess", "Popen"): command, ("subprocess", "check_output"): command,
        ("subprocess", "getoutput"): command, ("pty", "spawn"): command, ("commands", "getoutput"): command,
        ("builtins", "exec"): source, ("builtins", "eval"): source, ("builtins", "compile"): source,
        ("builtins", "open"): path, ("builtins", "__import__"): "os", ("__builtin__", "eval"): source,
        ("__builtin__", "execfile"): path, ("builtins", "getattr"): path, ("builtins", "map"): path,
        ("io", "open"): path, ("_io", "FileIO"): path, ("codecs", "open"): path, ("pathlib", "Path"): path,
        ("operator", "attrgetter"): "system", ("operator", "methodcaller"): "touch",
        ("functools", "partial"): path, ("functools", "reduce"): path, ("importlib", "import_module"): "os",
        ("runpy", "run_path"): path, ("timeit", "timeit"): source, ("code", "interact"): source,
        ("pickle", "loads"): source, ("marshal", "loads"): source, ("types", "FunctionType"): source,
        ("types", "CodeType"): source, ("ctypes", "CDLL"): path, ("socket", "create_connection"): path,
        ("webbrowser", "open"): path, ("numpy", "load"): path, ("numpy.testing._private.utils", "runstring"):
        source, ("numpy", "fromfile"): path, ("torch", "load"): path, ("torch.hub", "load"): path,
        ("torch.jit", "load"): path, ("torch.serialization", "load"): path, ("torch", "compile"): source,
        ("torch._inductor.codecache", "compile_file"): path, ("torch.storage", "UntypedStorage"): path,
        ("torch_utils.persistence", "exec"): source, ("torch_utils.persistence", "__builtins__"): source,
        ("torch_utils", "persistence._reconstruct_persistent_obj"): source, ("collections", "abc"): path,
        ("collections.OrderedDict", "__init__"): path, ("copyreg", "_reconstructor"): path,
        ("copyreg", "__newobj__"): path, ("_codecs", "lookup"): path, ("dnnlib.util", "open_url"): path,
    }  # fmt: skip
    return {
        f"imports-{module}-{name}": b"\x80\x04" + imported(module, name) + text(argument) + b"\x85R."
        for (module, name), argument in targets.items()
    }


def calls(canary):
    """What is called is not a name, or is a known name on arguments that it should not get."""
    exec_, source = imported("builtins", "exec"), text(f"open({str(canary)!r}, 'w')")
    ordered, persistent = (
        imported("collections", "OrderedDict"),
        imported("torch_utils.persistence", "_reconstruct_persistent_obj"),
    )
    rebuild, from_bytes = (
        imported("torch._utils", "_rebuild_tensor_v2"),
        imported("torch.storage", "_load_from_bytes"),
    )
    inner = b"\x80\x04" + exec_ + source + b"\x85R."
    return {
        "calls-a-text": b"\x80\x04" + source + b")R.",
        "calls-a-list": b"\x80\x04])R.",
        "calls-a-known-name-on-another": b"\x80\x04" + persistent + ordered + b"\x85R.",
        "calls-without-arguments": b"\x80\x04" + rebuild + b")R.",
        "calls-with-a-list-of-arguments": b"\x80\x04" + ordered + b"]R.",
        "calls-the-result-of-a-call": b"\x80\x04" + ordered + b")R)R.",
        "calls-a-class-of-storages": b"\x80\x04" + imported("torch", "FloatStorage") + b"K\x05\x85R.",
        "nests-a-pickle-in-bytes-of-a-tensor": b"\x80\x04" + from_bytes + b"B"
        + struct.pack("<I", len(inner)) + inner + b"\x85R.",
        "nests-a-pickle-in-a-text": b"\x80\x04" + from_bytes + text("cos\nsystem\n") + b"\x85R.",
        "names-with-a-global-on-the-stack": b"\x80\x04" + ordered + text("x") + b"\x93.",
        "names-with-bytes": b"\x80\x04C\x02osC\x06system\x93.",
        "names-with-newlines": b"\x80\x04cos\r\nsystem\r\n" + source + b"\x85R.",
        "names-in-line": b"\x80\x02cos\nsystem\n(S'" + touch(canary).encode() + b"'\ntR.",
        "names-without-end": b"\x80\x02c" + b"o" * 100_000,
        "builds-a-global": b"\x80\x04" + ordered + b"}b.",
        "builds-a-dict": b"\x80\x04}}b.",
        "builds-a-record-twice": b"\x80\x04" + imported("numpy", "dtype") + text("f8") + b"\x85R}b}b.",
        "builds-with-slots": b"\x80\x04" + imported("numpy", "dtype")
        + text("f8") + b"\x85RN}" + text("__class__") + exec_ + b"s\x86b.",
        "persistent-object-of-another-kind": b"\x80\x04" + persistent + b"}" + text("type") + text("def")
        + b"s\x85R.",
        "persistent-object-with-a-bomb-for-a-version": b"\x80\x04" + persistent + b"}(" + text("type")
        + text("class") + text("class_name") + text("X") + text("version") + doubled(60) + b"u\x85R.",
        "codecs-of-another-encoding": b"\x80\x02" + imported("_codecs", "encode") + text("x")
        + text("rot13") + b"\x86R.",
        "scalar-of-object-type": b"\x80\x04" + imported("numpy.core.multiarray", "scalar")
        + imported("numpy", "dtype") + text("O8") + b"\x85R" + b"C\x08" + bytes(8) + b"\x86R.",
        "scalar-of-a-bomb": b"\x80\x04" + imported("numpy.core.multiarray", "scalar")
        + imported("numpy", "dtype") + doubled(60) + b"\x85R" + b"C\x08" + bytes(8) + b"\x86R.",
        "set-of-lists": b"\x80\x04" + imported("builtins", "set") + b"]]a\x85R.",
        "array-of-objects": pickle.dumps({"ema": __import__("numpy").array([object], dtype=object)}, 4),
        "tensor-of-torch-load": pickle.dumps({"ema": torch.zeros(3)}, 4),
    }  # fmt: skip


def opcodes():
    """Each opcode that has no place in such a file, alone and well formed."""
    known = set(imports_of_honest())
    rare = {
        "INST": MARK + b"ios\nsystem\n", "OBJ": MARK + imported("os", "system") + b"o",
        "NEWOBJ": imported("os", "system") + b")\x81", "NEWOBJ_EX": imported("os", "system") + b")}\x92",
        "REDUCE": imported("os", "system") + b")R", "BUILD": imported("os", "environ") + b"}b",
        "GLOBAL": b"cos\nsystem\n", "STACK_GLOBAL": imported("os", "system"), "EXT1": b"\x82\x01",
        "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00", "PERSID": b"Pcanary\n",
        "BINPERSID": text("canary") + b"Q", "NEXT_BUFFER": b"\x97", "READONLY_BUFFER": b"N\x98",
        "BYTEARRAY8": b"\x96" + struct.pack("<Q", 2) + b"ab", "DUP": b"N2", "POP": b"N0", "POP_MARK": b"(N1",
        "LIST": b"(l", "DICT": b"(d", "INT": b"I5\n", "LONG": b"L5L\n", "FLOAT": b"F1.5\n",
        "STRING": b"S'x'\n", "UNICODE": b"Vx\n", "PUT": b"Np0\n", "GET": b"Np0\ng0\n",
        "LONG4": b"\x8b" + struct.pack("<i", 1) + b"\x01",
    }  # fmt: skip
    assert not known & {"INST", "OBJ", "EXT1", "PERSID", "NEXT_BUFFER"}
    unknown = {f"byte-{code:02x}": bytes([code]) for code in (0x00, 0x7F, 0x99, 0xFF)}
    return {f"opcode-{name}": b"\x80\x04" + body + STOP for name, body in {**rare, **unknown}.items()}


def imports_of_honest():
    """Opcodes of an honest snapshot."""
    stream = io.BytesIO()
    config, tensors = edm_reference()
    with writers.edm_modules():
        pickle.Pickler(stream, 4).dump({"ema": writers.edm_object(config, tensors)})
    return [opcode.name for opcode, _, _ in pickletools.genops(stream.getvalue())]


def doubled(times):
    """A list of twice a list of twice ...: few bytes, 2^times parts; one value."""
    return b"](" * times + b"]\x94" + b"".join(b"h%ce\x94" % i for i in range(times))


def doubled_tuple(times):
    """The same of tuples, whose hash asks every part."""
    return b")\x94" + b"".join(b"h%c\x86\x94" % i for i in range(times))


def nesting():
    """Values within values: deep, doubled, in circles."""
    return {
        "nested-lists": b"\x80\x04" + b"]" * DEEP + b"a" * (DEEP - 1) + STOP,
        "nested-tuples": b"\x80\x04)" + b"\x85" * DEEP + STOP,
        "nested-dicts": b"\x80\x04" + b"}K\x01" * (DEEP // 4) + b"N" + b"s" * (DEEP // 4) + STOP,
        "nested-marks": b"\x80\x04" + b"(" * DEEP + STOP,
        "doubled-lists": b"\x80\x04" + doubled(200) + STOP,
        "doubled-tuples": b"\x80\x04" + doubled_tuple(200) + STOP,
        "doubled-tuples-as-a-key": b"\x80\x04}" + doubled_tuple(60) + b"Ns.",
        "doubled-tuples-in-a-set": b"\x80\x04\x8f(" + doubled_tuple(60) + b"\x90.",
        "doubled-tuples-in-a-frozen-set": b"\x80\x04(" + doubled_tuple(60) + b"\x91.",
        "doubled-tuples-as-an-ordered-key": b"\x80\x04" + imported("collections", "OrderedDict") + b"]"
        + doubled_tuple(60) + b"N\x86a\x85R.",
        "lists-in-lists-as-ema": b"\x80\x04}" + text("ema") + b"]" * 90_000 + b"a" * 89_999 + b"s.",
        "tuples-in-tuples-as-ema": b"\x80\x04}" + text("ema") + b")" + b"\x85" * 300_000 + b"s.",
        "doubled-lists-as-ema": b"\x80\x04}" + text("ema") + doubled(200) + b"s.",
        "doubled-lists-as-a-name": b"\x80\x04}" + doubled(60) + b"Ns.",
        "list-of-itself": b"\x80\x04]\x94h\x00a.",
        "dict-of-itself-as-ema": b"\x80\x04}\x94" + text("ema") + b"h\x00s.",
        "stack-without-end": b"\x80\x04" + b"N" * (2 * DEEP) + STOP,
        "opcodes-without-end": b"\x80\x04N" + b"\x94" * (4 * DEEP),
    }  # fmt: skip


def sizes():
    """Sizes that are declared and not there, or absurd."""
    huge = struct.pack("<Q", 1 << 60)
    return {
        "declares-a-huge-text": b"\x80\x04\x8d" + huge + b"x.",
        "declares-huge-bytes": b"\x80\x04\x8e" + huge + b"x.",
        "declares-4-gigabytes": b"\x80\x04B\xff\xff\xff\xffx.",
        "declares-4-gigabytes-of-text": b"\x80\x04X\xff\xff\xff\xffx.",
        "declares-a-huge-frame": b"\x80\x04\x95" + huge + b"N.",
        "declares-a-huge-number": b"\x80\x04\x8b\xff\xff\xff\x7f\x01.",
        "declares-a-negative-number": b"\x80\x04\x8b\xff\xff\xff\xff\x01.",
        "remembers-far-away-in-line": b"\x80\x04Np99999999999999999999\n.",
        "gets-from-far-away-in-line": b"\x80\x04g99999999999999999999\n.",
        "declares-huge-frames-in-frames": b"\x80\x04" + (b"\x95" + huge) * 1000 + b"N.",
        "declares-a-frame-of-nothing": b"\x80\x04\x95" + bytes(8) + b"N.",
        "declares-a-huge-array": b"\x80\x05\x96" + huge + b"x.",
        "number-of-255-bytes": b"\x80\x04\x8a\xff" + b"\x7f" * 255 + b".",
        "number-of-digits-without-end": b"\x80\x02L" + b"9" * 100_000 + b"L\n.",
        "string-of-4-gigabytes": b"\x80\x02T\xff\xff\xff\xffx.",
        "remembers-far-away": b"\x80\x04Nr\xff\xff\xff\xffj\xff\xff\xff\xff.",
        "asks-for-what-it-never-remembered": b"\x80\x04h\x05.",
        "takes-from-an-empty-stack": b"\x80\x04\x87.",
        "takes-from-below-a-mark": b"\x80\x04N(\x85.",
        "remembers-nothing": b"\x80\x04\x94N.",
        "ends-with-two-values": b"\x80\x04NN.",
        "ends-with-none": b"\x80\x04.",
        "ends-within-a-mark": b"\x80\x04(N.",
        "says-protocol-0": b"\x80\x00N.",
        "says-protocol-1": b"\x80\x01N.",
        "says-nothing-of-its-protocol": b"cos\nsystem\n(S'true'\ntR.",
        "says-its-protocol-again-and-again": b"\x80\x04" * 1000 + b"N.",
        "says-protocol-6": b"\x80\x06N.",
        "says-protocol-255": b"\x80\xffN.",
        "text-that-is-no-utf8": b"\x80\x04\x8c\x02\xff\xfe.",
        "number-of-three-bytes": b"\x80\x04J\x00\x00\x00",
    }


class Run:
    """What a protocol of pickle would call."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def snapshots(canary):
    """Honest snapshots with one thing in them that would run."""
    config, tensors = edm_reference()
    source = f"open({str(canary)!r}, 'w').close()"
    hidden = {
        "exec-beside": ("dataset_kwargs", Run(exec, source)),
        "system-beside": ("augment_pipe", Run(os.system, touch(canary))),
        "eval-as-loss": ("loss_fn", Run(builtins.eval, source)),
    }
    made = {}
    for name, (key, value) in hidden.items():
        for protocol in range(6):
            top = {"ema": writers.edm_object(config, tensors), key: value}
            made[f"snapshot-{name}-{protocol}"] = dumped(top, protocol)
    for name, attribute, value in (
        ("hook", "_forward_hooks", {0: Run(exec, source)}),
        ("kwargs", "_init_kwargs", Run(exec, source)),
        ("module", "_modules", {"model": Run(exec, source)}),
        ("set-of-buffers", "_non_persistent_buffers_set", Run(exec, source)),
    ):
        ema = writers.edm_object(config, tensors)
        ema.__dict__[attribute] = value
        made[f"snapshot-{name}"] = dumped({"ema": ema}, 4)
    return made


def dumped(top, protocol):
    """A pickle as EDM's code makes it."""
    stream = io.BytesIO()
    with writers.edm_modules():
        pickle.Pickler(stream, protocol).dump(top)
    return stream.getvalue()


def cut_off():
    """An honest snapshot, cut at many places and with bits of its head turned over."""
    whole = dumped({"ema": writers.edm_object(*edm_reference())}, 4)
    made = {f"cut-off-{i:02d}": whole[: max(3, len(whole) * i // 20)] for i in range(20)}
    for at in range(11, 67, 4):  # behind the length of the frame, which is not asked
        turned = bytearray(whole)
        turned[at] ^= 0x80
        made[f"turned-bit-{at:02d}"] = bytes(turned)
    return made


def honest(folder):
    """Snapshots of every protocol, from old and new versions of numpy and torch."""
    config, tensors = edm_reference()
    made = []
    for protocol in (2, 3, 4, 5):
        for old in (False, True):
            path = folder / f"honest-{protocol}-{'old' if old else 'new'}.pkl"
            writers.write_edm(path, config, tensors, protocol=protocol, ordered=old, old_numpy=old)
            made.append(Case(f"pickles/{path.stem}", path, "expert", 0))
    return made
