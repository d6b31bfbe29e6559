"""Two vocabularies and one border: which words stand where, and what no file may do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "merged_diffusion"
RUST = ROOT / "rust"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A name on the left means what the word on the right says, and has no other name (CONTRIBUTING.md).
OTHER_NAMES = {
    "lambda_": "gamma",
    "log_snr": "logsnr, a word of the user's for gamma",
    "model1": "likelihood",
    "model2": "quality",
    "vdm_or_edm": "role",
    "stage2": "leg",
    "pred": "eps_hat",
    "noise_pred": "eps_hat",
    "eps_pred": "eps_hat",
    "nfe": "evaluations",
    "n_evals": "evaluations",
    "num_steps": "evaluations",
    "trace_est": "divergence",
    "idx": "ids",
    "indices": "ids",
    "bpd": "bits_per_dim",
    "ll": "nats",
}
DIFFUSION_WORDS = {"gamma", "eps", "eps_hat", "alpha", "sigma", "sigma_squared", "edm_sigma", "eta"}
SOLVER_WORDS = {"stage", "stages", "tableau", "slot", "slots", "trial", "frame", "lane", "workspace"}
HOMELESS = {"utils", "util", "helpers", "common", "misc", "manager", "shared", "stuff"}

SOLVER = ("tableau", "control", "workspace", "timed", "outcome", "lane", "route")
SOLVER_FILES = [
    *(RUST / "core" / "src" / f"{name}.rs" for name in SOLVER),
    *(
        path
        for folder in ("runge_kutta", "rows", "host")
        for path in sorted((RUST / "core" / "src" / folder).glob("*.rs"))
    ),
]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def identifiers(path: Path) -> set[str]:
    """Every name that a file defines, reads, passes or imports; no docstrings, no strings."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.keyword(arg=str(name)) | ast.alias(name=name):
                found.add(name)
    return found


def rust_code(path: Path) -> str:
    """The code of a file: no comments, no strings, no tests."""
    source = path.read_text(encoding="utf-8").split("#[cfg(test)]")[0]
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', re.sub(r"//.*", "", source))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call as written: ("torch.manual_seed", node)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_a_thing_has_one_name(path: Path) -> None:
    wrong = {f"{name}: write {OTHER_NAMES[name]}" for name in identifiers(path) & set(OTHER_NAMES)}
    assert not wrong


def test_no_file_is_a_drawer() -> None:
    files = [*MODULES, *RUST.rglob("*.rs")]
    assert not [shown(path) for path in files if HOMELESS & {path.stem, path.parent.name}]


@pytest.mark.parametrize("path", SOLVER_FILES, ids=shown)
def test_solver_of_the_core_speaks_no_diffusion(path: Path) -> None:
    words = set(re.findall(r"\w+", rust_code(path)))
    assert not words & DIFFUSION_WORDS


def test_workspace_speaks_no_diffusion() -> None:
    assert not identifiers(PACKAGE / "ode" / "workspace.py") & DIFFUSION_WORDS


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.is_relative_to(PACKAGE / "experts")], ids=shown
)
def test_experts_speak_no_solver(path: Path) -> None:
    assert not identifiers(path) & SOLVER_WORDS


def test_the_flow_speaks_both() -> None:
    words = identifiers(PACKAGE / "ode" / "flow.py")
    assert {"gamma", "eps_hat"} <= words


@pytest.mark.parametrize("path", sorted(RUST.rglob("*.rs")), ids=shown)
def test_no_unsafe_code(path: Path) -> None:
    assert "unsafe" not in re.findall(r"\w+", rust_code(path))


def test_core_forbids_unsafe_code() -> None:
    assert "#![forbid(unsafe_code)]" in (RUST / "core" / "src" / "lib.rs").read_text(encoding="utf-8")


MATHEMATICS = re.compile(
    r"\.(?:exp|exp_m1|exp2|ln|ln_1p|log|log2|log10|sqrt|cbrt|powi|powf|mul_add|recip|sin|cos|tan|tanh|hypot|erf)\("
    r"|\bconsts::|\bsum::<f"
)
# 0.0 is a value that nothing is computed from.
FLOAT = re.compile(r"(?<![\w.])(?!0\.0\b)\d[\d_]*\.\d+|\d+e-?\d+")


@pytest.mark.parametrize("path", sorted((RUST / "bindings" / "src").glob("*.rs")), ids=shown)
def test_bindings_hold_no_arithmetic(path: Path) -> None:
    # A signature names arguments and their defaults.
    code = re.sub(r"#\[pyo3\(signature = .*?\)\]", "", rust_code(path), flags=re.DOTALL)
    assert not MATHEMATICS.findall(code)
    assert not FLOAT.findall(code)


@pytest.mark.parametrize("path", sorted((RUST / "bindings" / "src").glob("*.rs")), ids=shown)
def test_a_binding_file_bears_the_name_of_its_core_file(path: Path) -> None:
    # `random` binds stream and truncated_normal, `threads` binds rayon.
    core = {file.stem for file in (RUST / "core" / "src").iterdir()}
    assert path.stem in core | {"lib", "random", "threads", "ode"}


def test_core_panics_nowhere_on_purpose() -> None:
    for path in (RUST / "core" / "src").rglob("*.rs"):
        assert not re.findall(r"\.unwrap\(\)|\bpanic!|\btodo!|\bunimplemented!", rust_code(path)), shown(path)


GLOBAL_GENERATORS = re.compile(
    r"(np|numpy)\.random\.(seed|rand|randn|random|normal|uniform|choice|permutation|shuffle|set_state)$"
    r"|random\.(seed|random|choice|shuffle|gauss|uniform)$"
    r"|torch\.(cuda\.)?(manual_seed|seed|manual_seed_all|set_rng_state)$"
)


def inside_fork(path: Path, call: ast.Call) -> bool:
    """Whether the function around the call, or its caller in the file, forks torch's generator."""
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    around = [f for f in functions if f.lineno <= call.lineno <= (f.end_lineno or 0)]
    names = {f.name for f in around}
    callers = [f for f in functions if any(f"{name}(" in ast.unparse(f) for name in names)]
    return any("torch.random.fork_rng" in ast.unparse(f) for f in (*around, *callers))


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_global_generators_are_left_alone(path: Path) -> None:
    seeded = [call for name, call in calls(path) if GLOBAL_GENERATORS.match(name)]
    assert not [call.lineno for call in seeded if not inside_fork(path, call)]


SWITCHES = re.compile(
    r"torch\.(set_default_dtype|set_default_device|use_deterministic_algorithms|set_grad_enabled"
    r"|set_float32_matmul_precision)$"
)
WRITERS = ("fence", "arithmetic")
FLAGS = {"allow_tf32", "benchmark", "deterministic", "fp32_precision"}


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if p.parent.name != "jobs" and p.stem not in WRITERS],
    ids=shown,
)
def test_no_module_writes_global_flags_of_torch(path: Path) -> None:
    assert not [name for name, _ in calls(path) if SWITCHES.match(name)]
    targets = [
        target.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and "torch.backends" in ast.unparse(target)
    ]
    assert not set(targets) & FLAGS


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_no_file_is_executed(path: Path) -> None:
    """A checkpoint or data file is data (code that the user names as `file.py:name` is `experts.cards`)."""
    imports = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            imports |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            # torch's safe reader raises it.
            imports |= set() if names == {"UnpicklingError"} else {(node.module or "").split(".")[0]}
    # What a command hands to the workers of its own cluster comes out of no file, and Ray pickles it all.
    told = {"pickle"} if path == PACKAGE / "scores" / "named_objects.py" else set()
    assert not (imports - told) & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for name, call in calls(path):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in ("torch.load", "torch.jit.load"):
            assert options.get("weights_only") == "True", f"line {call.lineno}"
        if name in ("np.load", "numpy.load", "np.lib.format.read_array", "format.read_array"):
            assert options.get("allow_pickle") == "False", f"line {call.lineno}"
        assert name not in ("eval", "exec"), f"line {call.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_standard_output_belongs_to_the_command_line(path: Path) -> None:
    if PACKAGE / "cli" not in path.parents:
        assert not [call.lineno for name, call in calls(path) if name == "print"]


UNTYPED = re.compile(r"\b(?:dict|Mapping)\[str, Any\]")
MOST_UNTYPED = 60  # places at which a value of JSON, TOML or a command has any type
# What they meet there. Everything else passes dataclasses, or `object` that is checked where it is read.
BORDERS = {
    "what a user or a command says": (
        *("cli/experts", "cli/expert_report", "cli/fid", "cli/named_models"),
        "cli/shared_work",
        *("cli/options", "cli/sample", "cli/time_report", "cli/train", "gating/gated"),
        *("jobs/evaluate", "jobs/settings", "sweeps/request", "experts/checkpoints/read_as"),
        "experts/checkpoints/sde_words",
    ),
    "files of runs, samples and sweeps": (
        *("runs/settings_file", "sampling/sample_files", "sweeps/sweep_row", "sweeps/table"),
        *("jobs/pilot_runs", "jobs/quadrature_pilot"),
    ),
    "cards, and what they say of networks and clocks": (
        *("experts/card", "experts/inspection", "experts/nets/arguments", "experts/nets/small"),
        *("experts/public_expert", "gate_card", "training/recipe"),
    ),
    "other files": (
        *("catalogue/entries", "experts/diffusers_folder", "fetch/hub", "files/arrays", "files/weights"),
        *("reports/published", "training/image_cache", "training/report_lines"),
    ),
    "what the core tells of a solve": ("likelihood/likelihoods", "ode/time_profile"),
}


def test_values_of_any_type_stand_at_a_border() -> None:
    found = {
        str(path.relative_to(PACKAGE).with_suffix("")): n
        for path in MODULES
        if (n := len(UNTYPED.findall(path.read_text(encoding="utf-8"))))
    }
    assert sum(found.values()) <= MOST_UNTYPED
    assert set(found) == {name for names in BORDERS.values() for name in names}
