"""What does a device do: does it agree, does it wait, how fast is it, and what does each precision cost?

    python benches/device.py --out device.json                # all parts, full-size networks on a GPU
    python benches/device.py --out device.json --part cost    # one part again
    python benches/device.py --out device.json --device cpu   # the CPU form: small networks, a few minutes

Each part runs in a process of its own and is kept in the file as soon as it is there, so that a stopped
command goes on with what is missing. What cannot be measured on a device is null, with the reason beside it
under ``left_out``. ``--smallest`` takes the least sizes, for a test of this script. What the file holds is
described in README.md beside it, and held by ``tests/test_device_script.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FORMAT = 2
PRECISIONS = ("float32", "tf32", "bf16")
GPU_SECONDS, CPU_SECONDS = 120, 300  # of one part at most
Found = dict[str, Any]


class Sizes:
    """How much each part takes: full-size networks on a GPU, the bundled ones of scenes on a CPU."""

    def __init__(self, device: str, smallest: bool) -> None:
        self.device, self.smallest = device, smallest
        self.is_gpu = device.startswith("cuda")
        self.rows = 256 if self.is_gpu else 2 if smallest else 8
        self.images = 256 if self.is_gpu else 2 if smallest else 8
        self.repeats = 10 if self.is_gpu else 1 if smallest else 3

    def experts(self) -> tuple[Any, Any]:
        """Likelihood and quality expert of 3 x 32 x 32."""
        sys.path.insert(0, str(ROOT / "benches" / "python"))
        from networks import EDM, VDM

        import merged_diffusion as md

        if self.is_gpu:
            return VDM.expert().eval(), EDM.expert().eval()
        return md.load_expert("bundled:scenes-vdm"), md.load_expert("bundled:scenes-edm")

    def pair(self, *, is_compiled: bool = False) -> Any:
        """Both merged."""
        import merged_diffusion as md
        from merged_diffusion.experts.compiling import compiled

        experts = self.experts()
        if is_compiled:
            experts = tuple(compiled(expert) for expert in experts)
        return md.MergedModel(*experts, md.Threshold.eta(0.4))

    def data(self) -> Any:
        """Images of 3 x 32 x 32."""
        import merged_diffusion as md

        return md.load_data("scenes").select(limit=self.images)

    def machine(self, **options: Any) -> Any:
        import merged_diffusion as md

        return md.Machine(self.device, batch_size=self.rows, profile_time=True, **options)


def ways(sizes: Sizes, found: Found) -> Iterator[tuple[str, str, bool]]:
    """Name, precision and whether compiled, of what can be measured; the rest is left out of ``found``."""
    found["left_out"] = {}
    for precision in PRECISIONS:
        for is_compiled in (False, True):
            name = f"{precision}{' compiled' if is_compiled else ''}"
            if sizes.is_gpu or (precision != "tf32" and not is_compiled):
                yield name, precision, is_compiled
            else:
                found[name], found["left_out"][name] = None, "on a GPU alone"


def timed(sizes: Sizes, call: Callable[[], object]) -> float:
    """Seconds of a call, the least of some, once it has been made."""
    import torch

    def once() -> float:
        begin = time.perf_counter()
        call()
        if sizes.is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    once()
    return min(once() for _ in range(sizes.repeats))


def ode(sizes: Sizes) -> Found:
    """The tests that compare the device with the host."""
    # On a CPU all of them take minutes, and compare the host with itself.
    some = "neighbours" if sizes.smallest else "neighbours or (float64 and per-image)"
    chosen = [] if sizes.is_gpu else ["-k", some]
    command = [sys.executable, "-m", "pytest", "-q", "tests/ode/test_device.py", "--device", sizes.device]
    done = subprocess.run([*command, *chosen], cwd=ROOT, capture_output=True, text=True, check=False)
    return {"passed": done.returncode == 0, "told": done.stdout.strip().splitlines()[-1:]}


def waits(sizes: Sizes) -> Found:
    """Waits for the device that nothing asked for, over the network calls of a likelihood."""
    import torch

    import merged_diffusion as md

    if not sizes.is_gpu:
        return {"per_call": None, "left_out": {"per_call": "a CPU waits for nothing"}}
    model, data = sizes.pair(), sizes.data()
    run = lambda: md.log_likelihood(model, data, machine=sizes.machine()).allowing_failed()  # noqa: E731
    run()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run()
    torch.cuda.set_sync_debug_mode("default")
    told = [warning for warning in caught if "synchron" in str(warning.message)]
    return {"per_call": len(told) / found.time_profile.network_calls, "left_out": {}}


def cost(sizes: Sizes) -> Found:
    """Seconds of an evaluation of one image by the slower full-size network, for a plan of the paper."""
    sys.path.insert(0, str(ROOT / "benches" / "python"))
    from networks import EDM, VDM

    rows = sizes.rows if sizes.is_gpu else 1
    found: Found = {"rows": rows}
    for card in (VDM, EDM):
        expert = card.expert().eval().requires_grad_(False).to(sizes.device)
        made = dict(calls_on(expert, rows, sizes.device))
        found[card.name] = {name: timed(sizes, call) / rows for name, call in made.items()}
    found["call_seconds"] = max(found[name]["forward"] for name in ("vdm", "edm"))
    found["product_seconds"] = max(found[name]["forward + VJP"] for name in ("vdm", "edm"))
    return found


def calls_on(expert: Any, rows: int, device: str) -> list[tuple[str, Callable[[], object]]]:
    """A forward call, and one with a vector-Jacobian product."""
    import torch

    z = torch.randn(rows, 3, 32, 32, device=device)
    gamma = torch.linspace(-12, 4, rows, dtype=torch.float64, device=device)
    v = torch.sign(z)

    def forward() -> object:
        with torch.no_grad():
            return expert(z, gamma)

    def with_product() -> object:
        state = z.clone().requires_grad_()
        return torch.autograd.grad(expert(state, gamma), state, v)

    return [("forward", forward), ("forward + VJP", with_product)]


def measured(sizes: Sizes, call: Callable[[], Any]) -> Found:
    """A result's seconds, share outside of the network, evaluations and memory."""
    import torch

    if sizes.is_gpu:
        call()
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    found = call()
    seconds = time.perf_counter() - begin
    profile = getattr(found, "time_profile", None)
    parts = None if profile is None else dict(profile.seconds)
    outside = None if parts is None else seconds - parts["network"] - parts["products"]
    return {
        "images": sizes.images,
        "seconds": seconds,
        "share_outside_network": None if outside is None else outside / seconds,
        "network_calls": None if profile is None else profile.network_calls,
        "parts": parts,
        "peak_MiB": torch.cuda.max_memory_allocated() / 2**20 if sizes.is_gpu else None,
    }


def nll(sizes: Sizes) -> Found:
    """An exact likelihood in each precision, compiled and not."""
    import merged_diffusion as md

    found: Found = {}
    for name, precision, is_compiled in ways(sizes, found):
        model, data = sizes.pair(is_compiled=is_compiled), sizes.data()
        machine = sizes.machine(precision=precision)

        def call(model: Any = model, data: Any = data, machine: Any = machine) -> Any:
            return md.log_likelihood(model, data, machine=machine).allowing_failed()

        found[name] = measured(sizes, call)
    return found


def sample(sizes: Sizes) -> Found:
    """Samples by the ODE in each precision, compiled and not."""
    import merged_diffusion as md

    found: Found = {}
    for name, precision, is_compiled in ways(sizes, found):
        model, machine = sizes.pair(is_compiled=is_compiled), sizes.machine(precision=precision)
        found[name] = measured(
            sizes, lambda model=model, machine=machine: md.draw(model, range(sizes.images), machine=machine)
        )
    return found


def sweep(sizes: Sizes) -> Found:
    """A likelihood at three thresholds, which share their steps."""
    import merged_diffusion as md
    from merged_diffusion.likelihood import log_likelihoods
    from merged_diffusion.likelihood.likelihood_options import Options

    (likelihood, quality), data = sizes.experts(), sizes.data()
    models = {str(eta): md.MergedModel(likelihood, quality, md.Threshold.eta(eta)) for eta in (0.3, 0.4, 0.5)}
    options = Options(machine=sizes.machine())
    return measured(sizes, lambda: next(iter(log_likelihoods(models, data, options).values())))


def train(sizes: Sizes) -> Found:
    """Seconds of a step of training in each precision, compiled and not."""
    import torch

    from merged_diffusion.experts.arithmetic import layers, products
    from merged_diffusion.training.objectives import likelihood_loss

    expert = sizes.experts()[0].to(sizes.device).train().requires_grad_(True)
    x = torch.rand(sizes.rows, 3, 32, 32, device=sizes.device) * 2 - 1
    gamma = torch.linspace(-12, 4, sizes.rows, dtype=torch.float64, device=sizes.device)
    step = torch.optim.AdamW(expert.parameters(), lr=1e-6)
    found: Found = {"rows": sizes.rows}
    for name, precision, is_compiled in ways(sizes, found):

        def loss(precision: str = precision) -> Any:
            with layers(precision, x.device):
                return likelihood_loss(expert, x, torch.randn_like(x), gamma)

        called = torch.compile(loss) if is_compiled else loss

        def once(called: Callable[[], Any] = called, precision: str = precision) -> None:
            with products(precision):
                step.zero_grad()
                called().backward()
                step.step()

        found[name] = timed(sizes, once)
    return found


def precisions(sizes: Sizes) -> Found:
    """How far network calls, products and bits/dim in each precision are from float64."""
    import torch

    import merged_diffusion as md
    from merged_diffusion.experts.arithmetic import in_precision

    found: Found = {}
    rows = min(sizes.rows, 8)
    few = sizes.data().select(limit=32 if sizes.is_gpu else 1 if sizes.smallest else 2)
    solver = md.Adams(tol=0.3, h_max=2.0) if sizes.smallest else md.Adams()
    chosen = [(name, precision) for name, precision, is_compiled in ways(sizes, found) if not is_compiled]
    for name in [name for name in found if name.endswith(" compiled")]:
        found.pop(name), found["left_out"].pop(name)
    exact, experts = {}, dict(zip(("likelihood", "quality"), sizes.experts(), strict=True))
    z = torch.randn(rows, 3, 32, 32, dtype=torch.float64, device=sizes.device)
    gamma = torch.linspace(-11, 4, rows, dtype=torch.float64, device=sizes.device)
    for role, expert in experts.items():
        exact[role] = pulled(expert.to(sizes.device).double(), z, gamma)
        expert.float()

    def bits(**how: Any) -> Any:
        machine, probes = sizes.machine(**how), md.Probes(kind="fixed")
        model = md.MergedModel(*experts.values(), md.Threshold.eta(0.4))
        found = md.log_likelihood(model, few, machine=machine, probes=probes, solver=solver)
        return found.allowing_failed().bits_per_dim

    in_full = bits(dtype="float64")
    for name, precision in chosen:
        found[name] = {}
        for role, expert in experts.items():
            with in_precision(precision):
                own = pulled(expert, z.float(), gamma)
            errors = [float((a - b).norm() / b.norm()) for a, b in zip(own, exact[role], strict=True)]
            found[name][role] = {"eps_hat": errors[0], "product": errors[1]}
        away = bits(precision=precision) - in_full
        found[name]["bits_per_dim"] = {"mean": float(away.mean()), "largest": float(abs(away).max())}
    return found


def pulled(expert: Any, z: Any, gamma: Any) -> tuple[Any, Any]:
    """eps_hat and the product with its signs, in float64."""
    import torch

    from merged_diffusion.experts.fence import ask, pull

    state = z.clone().requires_grad_()
    eps_hat = ask(expert, state, gamma, grad=True)
    product = pull(expert, eps_hat, state, torch.sign(z))
    return eps_hat.detach().double(), product.double()


PARTS: dict[str, Callable[[Sizes], Found]] = {
    part.__name__: part for part in (ode, waits, cost, nll, sample, sweep, train, precisions)
}


def default_device() -> str:
    """The GPU, where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def name_of(device: str) -> str:
    """What the file says of a device; a CPU is asked without torch."""
    if not device.startswith("cuda"):
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name(device))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("device.json"))
    parser.add_argument("--device", default=None, help="cuda where it is usable, else cpu")
    parser.add_argument("--part", choices=PARTS, action="append", help="again, whatever the file holds")
    parser.add_argument("--smallest", action="store_true", help="the least sizes")
    parser.add_argument("--run", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    device = given.device or default_device()
    if given.run:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of networks that were not trained
            print(json.dumps(PARTS[given.run](Sizes(device, given.smallest))))
        return 0
    name = name_of(device)
    held = json.loads(given.out.read_text()) if given.out.exists() else {}
    if held and held["format"] != FORMAT:
        parser.error(f"{given.out} is of format {held['format']}, this is {FORMAT}: name another --out")
    if held and (held["device"], held["smallest"]) != (name, given.smallest):
        parser.error(f"{given.out} is of {held['device']}: name another --out")
    parts = held.get("parts", {})
    for part in given.part or [part for part in PARTS if parts.get(part, {"error": 1}).get("error")]:
        begin = time.monotonic()
        command = [sys.executable, __file__, "--run", part, "--device", device]
        command += ["--smallest"] if given.smallest else []
        try:
            limit = GPU_SECONDS if device.startswith("cuda") else CPU_SECONDS
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
            found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
            error = None if found is not None else done.stderr.strip()[-500:]
        except subprocess.TimeoutExpired:
            found, error = None, f"took more than {limit} s"
        parts[part] = (found or {}) | {"error": error, "took_seconds": time.monotonic() - begin}
        kept = {"format": FORMAT, "device": name, "smallest": given.smallest, "torch": version("torch")}
        given.out.write_text(json.dumps(kept | {"parts": parts}, indent=1) + "\n")
        print(f"{part:<11} {parts[part]['took_seconds']:6.1f} s  {error or 'done'}", flush=True)
    return 0 if all(parts[part]["error"] is None for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
