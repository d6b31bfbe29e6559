"""Every branch that depends on the kind of device: a test reaches it by a stub, or it is said why none does.

What is found in the code is held against this list, so that a new branch has to be put into it.
"""

import ast
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from merged_diffusion.errors import ResourceError, UsageError
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.experts.memory import Rows
from merged_diffusion.experts.nets.labels import class_rows
from merged_diffusion.jobs import cost
from merged_diffusion.ode import devices, placing, stopwatch, workspace
from merged_diffusion.ode.flow import _sum_dtype
from merged_diffusion.ode.machine import Machine, Place
from merged_diffusion.ode.methods import Adams
from merged_diffusion.ode.solve import solve
from merged_diffusion.ode.time_profile import Timekeeper
from merged_diffusion.runs.environment import versions
from merged_diffusion.scores.usual_rows import drawing_rows
from merged_diffusion.training import processes

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "merged_diffusion"
SOURCES = sorted([*PACKAGE.rglob("*.py"), ROOT / "benches" / "device.py"])
KINDS = ("cuda", "cpu", "mps")
HERE = "tests/test_device_branches.py"
BENCH = "not reached: a GPU's own figures; the CPU form runs in tests/test_device_script.py"
# By file and function: the test that reaches it, or why none does.
BRANCHES = {
    "benches/device.py Sizes.__init__": BENCH,
    "benches/device.py Sizes.experts": BENCH,
    "benches/device.py cost": BENCH,
    "benches/device.py default_device": BENCH,
    "benches/device.py main": BENCH,
    "benches/device.py measured": BENCH,
    "benches/device.py name_of": BENCH,
    "benches/device.py ode": BENCH,
    "benches/device.py precisions": BENCH,
    "benches/device.py timed.once": BENCH,
    "benches/device.py waits": BENCH,
    "benches/device.py ways": BENCH,
    "cli/workers.py gpu_of": "tests/test_workers.py::test_each_local_rank_takes_its_own_gpu",
    "cli/workers.py take_gpu": "tests/test_workers.py::test_cuda_means_the_gpu_of_the_rank",
    "experts/arithmetic.py check_numbers": "tests/cli/test_precision.py::test_tf32_is_refused_on_a_cpu",
    "experts/memory.py _free": f"{HERE}::test_what_torch_keeps_of_a_gpu_is_given_back_before_the_next_try",
    "experts/nets/labels.py class_rows": f"{HERE}::test_classes_on_a_device_are_not_waited_for",
    "jobs/cost.py _timed": f"{HERE}::test_a_timed_call_waits_for_the_device",
    "ode/devices.py resolve_device": f"{HERE}::test_auto_is_the_gpu_where_it_can_hold_a_number",
    "ode/flow.py _sum_dtype": f"{HERE}::test_mps_has_no_float64",
    "ode/machine.py Machine.here": f"{HERE}::test_mps_has_no_float64",
    "ode/placing.py placed": f"{HERE}::test_what_goes_to_a_gpu_is_pinned_and_not_waited_for",
    "ode/solve.py solve": f"{HERE}::test_the_host_steps_no_tensors_of_a_gpu",
    "ode/spread.py Spread.note": "tests/ode/test_spread.py::test_steps_in_the_row_of_another_have_its_values",
    "ode/stopwatch.py Stopwatch.running": f"{HERE}::test_time_of_a_gpu_is_that_of_its_queue",
    "ode/stopwatch.py _event": f"{HERE}::test_time_of_a_gpu_is_that_of_its_queue",
    "ode/time_profile.py Timekeeper.__init__": f"{HERE}::test_time_of_a_gpu_is_that_of_its_queue",
    "ode/workspace.py TorchWorkspace.__init__": f"{HERE}::test_states_of_mps_live_on_the_host",
    "jobs/ray_pool.py RayPool.__init__": "not reached: it asks a cluster for workers that have a GPU",
    "runs/environment.py versions": f"{HERE}::test_versions_name_the_gpu",
    "schedules.py home": "tests/test_schedules.py::test_float64_lives_on_the_device_unless_it_has_none",
    "scores/usual_rows.py drawing_rows": f"{HERE}::test_more_rows_are_drawn_on_a_gpu",
    "scores/usual_rows.py scoring_rows":
        "tests/likelihood/test_likelihood.py::test_rows_are_a_multiple_of_16_that_holds_all",
    "training/batch_loss.py loss_of_rows":
        "tests/training/test_training.py::test_a_batch_in_parts_has_the_gradient_of_the_whole",
    "training/dry_run.py cost": "not reached: a wait and a peak of memory that torch counts on a GPU alone",
    "training/fitting.py fit": "not reached: it names the GPU whose generator torch is to put back",
    "training/precision.py check_precision":
        "tests/training/test_engine.py::test_ends_are_not_learned_where_there_is_no_float64",
    "training/processes.py _own_device": f"{HERE}::test_each_process_of_a_training_has_its_gpu",
    "training/processes.py joined": f"{HERE}::test_gpus_speak_by_nccl_and_hosts_by_gloo",
}  # fmt: skip


def depends(node):
    """Whether a node looks at the kind of a device, or does what means something on one kind alone."""
    match node:
        case ast.Attribute(value=ast.Name("torch"), attr="cuda"):
            return True
        case ast.Attribute(attr="is_cuda" | "is_gpu" | "pin_memory"):
            return True
        case ast.keyword(arg="non_blocking" | "pin_memory"):
            return True
        case ast.keyword(arg="device", value=ast.Constant(value="cuda")):
            return True
        case ast.Compare():
            sides = (node.left, *node.comparators)
            return any(isinstance(side, ast.Constant) and side.value in KINDS for side in sides)
        case ast.Call(func=ast.Attribute(attr="startswith"), args=[ast.Constant(value="cuda")]):
            return True
        case ast.Constant(value=str() as text):
            return "nccl" in text
    return False


def branches(node, names=()):
    """Names of the functions in which something depends on the device; annotations do not."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            own = (*names, child.name) if isinstance(child, ast.FunctionDef | ast.ClassDef) else names
            if depends(child):
                yield ".".join(own) or "(module)"
            yield from branches(child, own)


def test_every_branch_is_reached_or_its_reason_is_said():
    found = set()
    for path in SOURCES:
        shown = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()
        found |= {f"{shown} {name}" for name in branches(ast.parse(path.read_text(encoding="utf-8")))}
    assert found == set(BRANCHES)


@pytest.mark.parametrize("told", sorted(set(BRANCHES.values())))
def test_what_is_named_is_a_test_or_a_reason(told):
    if told.startswith("not reached: "):
        return
    path, _, name = told.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_new_branches_are_found():
    code = "def f(z):\n    if z.device.type == 'cuda':\n        torch.cuda.synchronize()\n"
    code += "class A:\n    def g(self) -> torch.cuda.Event:\n        return self.x.to(0, non_blocking=True)\n"
    code += "def quiet(x: torch.cuda.Event) -> None:\n    return None\n"
    assert set(branches(ast.parse(code))) == {"f", "A.g"}


CUDA, MPS, META = (torch.device(name) for name in ("cuda", "mps", "meta"))


def test_what_torch_keeps_of_a_gpu_is_given_back_before_the_next_try(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    rows, tried = Rows(4, "cuda"), []
    while not tried or tried[-1] > 2:
        with rows.attempt() as number:
            tried.append(number)
            if number > 2:
                raise torch.OutOfMemoryError
    assert (tried, emptied) == ([4, 2], [True])
    with pytest.raises(ResourceError, match="memory of cuda"), Rows(1, "cuda").attempt():
        raise torch.OutOfMemoryError


def test_classes_on_a_device_are_not_waited_for():
    labels = torch.zeros(3, dtype=torch.int64, device=META)  # whose values nobody can look at
    assert class_rows(labels, 3, 10, torch.zeros(3, 1, device=META)).shape == (3, 10)


def test_a_timed_call_waits_for_the_device(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))

    class OnGpu(torch.Tensor):
        is_cuda = True

    z = torch.zeros(1, 1, 2, 2).as_subclass(OnGpu)
    gamma = torch.zeros(1, dtype=torch.float64)
    expert = GaussianExpert((1, 2, 2), variance=0.25)
    cost._timed(expert, z, gamma, None, 1)
    assert waited == [True]
    cost._timed(expert, torch.zeros(1, 1, 2, 2), gamma, None, 1)
    assert waited == [True]


def test_auto_is_the_gpu_where_it_can_hold_a_number(monkeypatch):
    monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
    assert devices.resolve_device("auto") == ("cuda", None)


def test_mps_has_no_float64(monkeypatch):
    monkeypatch.setattr(devices, "resolve_device", lambda name: (name, None))
    assert _sum_dtype(MPS) == torch.float32
    assert _sum_dtype(CUDA) == torch.float64
    assert Machine(device="cuda", dtype="float64").here(lambda _: 4).dtype == torch.float64
    with pytest.raises(UsageError, match="has no float64"):
        Machine(device="mps", dtype="float64").here(lambda _: 4)
    with pytest.raises(UsageError, match="on mps is not offered"):
        Machine(device="mps", precision="bf16").here(lambda _: 4)
    assert Machine(device="cuda", precision="tf32").here(lambda _: 4).precision == "tf32"


def test_what_goes_to_a_gpu_is_pinned_and_not_waited_for(monkeypatch):
    done = []

    class Given:
        def pin_memory(self):
            done.append("pinned")
            return self

        def to(self, device, *, non_blocking):
            done.append((device, non_blocking))
            return self

    monkeypatch.setattr(placing.torch, "from_numpy", lambda array: Given())
    placing.placed(np.zeros(2), CUDA)
    assert done == ["pinned", (CUDA, True)]
    done.clear()
    placing.placed(np.zeros(2), torch.device("cpu"))
    assert done == [(torch.device("cpu"), True)]


def test_the_host_steps_no_tensors_of_a_gpu():
    given = {"dim": 2, "solver": Adams(), "finished": print}
    keys, place = np.zeros(1, np.uint64), Place(CUDA, torch.float32, 1, workspace="host")
    with pytest.raises(UsageError, match='"host" steps tensors of the CPU, not of cuda'):
        solve([[(-13.0, 5.0)]], [None], keys, None, place=place, **given)


class Event:
    """A second passes between two records; what was queued is over as soon as three more are."""

    clock = 0.0
    made: ClassVar = []

    def __init__(self, enable_timing):
        assert enable_timing
        self.at = None
        Event.made.append(self)

    def record(self):
        Event.clock += 1.0
        self.at = Event.clock

    def query(self):
        return Event.clock >= self.at + 3

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at)

    def synchronize(self):
        Event.clock = max(Event.clock, self.at + 3)


def test_time_of_a_gpu_is_that_of_its_queue(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    watch = stopwatch.Stopwatch()
    for _ in range(4):
        with watch.running(CUDA):
            pass
    assert len(watch._queued) < 4  # those that are over were read on the way
    assert watch.seconds == 4.0
    Event.made.clear()
    keeper = Timekeeper(CUDA)
    with keeper.during("network"), keeper.during("starts"):
        pass
    assert len(Event.made) == 2  # of the network: the host draws the starts
    with Timekeeper(torch.device("cpu")).during("network"):
        pass
    assert len(Event.made) == 2


def test_states_of_mps_live_on_the_host(monkeypatch):
    zeros, asked = torch.zeros, Counter()

    def counted(*size, device, dtype):
        asked[str(device), dtype] += 1
        return zeros(*size, device="cpu", dtype=dtype)

    monkeypatch.setattr(workspace.torch, "zeros", counted)
    ask = {"start": None, "network": None, "store": {}, "dtype": torch.float32}
    on_mps = workspace.TorchWorkspace(4, 2, device=MPS, **ask)
    assert asked == {("cpu", torch.float64): 1, ("cpu", torch.float32): 1, ("mps", torch.float32): 1}
    asked.clear()
    on_gpu = workspace.TorchWorkspace(4, 2, device=CUDA, **ask)
    assert {device for device, _ in asked} == {"cuda"}
    assert (on_mps._width, on_gpu._width) == (workspace.CHUNK // 4, workspace.DEVICE_CHUNK // 4)


def test_versions_name_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert versions()["gpu"] == "Some GPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert versions()["gpu"] is None


def test_more_rows_are_drawn_on_a_gpu():
    assert (drawing_rows(CUDA), drawing_rows(torch.device("cpu"))) == (256, 16)


def test_each_process_of_a_training_has_its_gpu(monkeypatch):
    taken = []
    monkeypatch.setattr(processes, "resolve_device", lambda name: ("cuda" if name == "auto" else name, None))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert processes._own_device("auto", 1) == torch.device("cuda", 1)
    assert taken == [1]
    assert processes._own_device("cpu", 5) == torch.device("cpu")
    for device, local in (("cuda", 2), ("cuda:1", 0), ("cuda", None), ("mps", 0)):
        with pytest.raises(UsageError, match="2 GPUs are here"):
            processes._own_device(device, local)


@pytest.mark.parametrize(("device", "backend"), [("cuda", "cpu:gloo,cuda:nccl"), ("cpu", "gloo")])
def test_gpus_speak_by_nccl_and_hosts_by_gloo(monkeypatch, device, backend):
    begun = []
    store = torch.distributed.HashStore()
    monkeypatch.setattr(processes, "_own_device", lambda name, local: torch.device(name))
    monkeypatch.setattr(processes, "rendezvous", lambda url, timeout: iter([(store, 0, 2)]))
    stub = SimpleNamespace(
        init_process_group=lambda backend, **_: begun.append(backend),
        barrier=lambda: None,
        destroy_process_group=lambda: None,
    )
    monkeypatch.setattr(processes, "dist", stub)
    environment = dict.fromkeys(processes.VARIABLES, "0") | {"RANK": "0", "WORLD_SIZE": "2"}
    with processes.joined(device, environment) as team:
        assert (team.size, team.device.type) == (2, device)
    assert begun == [backend]
