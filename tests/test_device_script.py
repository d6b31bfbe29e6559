"""`benches/device.py`: its smallest parts run, its keys are those of the README, a part is repeated alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[1] / "benches"
OF_CALL = {"images", "seconds", "share_outside_network", "network_calls", "parts", "peak_MiB"}
WAYS = {f"{one}{more}" for one in ("float32", "tf32", "bf16") for more in ("", " compiled")}
KEPT = {"error", "took_seconds"}
KEYS = {
    "ode": {"passed", "told"},
    "waits": {"per_call", "left_out"},
    "cost": {"rows", "vdm", "edm", "call_seconds", "product_seconds"},
    "nll": WAYS | {"left_out"},
    "sample": WAYS | {"left_out"},
    "sweep": OF_CALL,
    "train": WAYS | {"rows", "left_out"},
    "precisions": {"float32", "tf32", "bf16", "left_out"},
}


def run(*arguments):
    command = [sys.executable, str(BENCHES / "device.py"), "--device", "cpu", "--smallest"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


def file(out, **parts):
    held = {"format": 2, "device": "cpu", "smallest": True, "torch": "2", "parts": parts}
    out.write_text(json.dumps(held))
    return out


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    kept = {"error": None, "took_seconds": 1.0}
    out = file(tmp_path_factory.mktemp("device") / "device.json", nll=kept)
    done = run("--out", out, *(word for part in ("waits", "precisions") for word in ("--part", part)))
    assert done.returncode == 0, done.stdout + done.stderr
    read = json.loads(out.read_text())
    assert set(read) == {"format", "device", "smallest", "torch", "parts"}
    assert read["parts"].pop("nll") == kept  # what is there is not done again
    return read["parts"]


def test_keys_are_stable_and_what_is_left_out_says_why(found):
    for part, values in found.items():
        assert set(values) == KEYS[part] | KEPT
        for name, value in values.items():
            assert (value is None and name != "error") == (name in values["left_out"])


def test_float32_is_near_float64_and_bfloat16_less_so(found):
    full, low = (found["precisions"][name] for name in ("float32", "bf16"))
    for role in ("likelihood", "quality"):
        # A float has 24 bits, and a sum of n products loses a few more; a bfloat16 has 8.
        assert full[role]["eps_hat"] < 1e-5 < low[role]["eps_hat"] < 0.1
        assert full[role]["product"] < 1e-4 < low[role]["product"] < 0.3
    assert full["bits_per_dim"]["largest"] < low["bits_per_dim"]["largest"]


def test_the_readme_names_every_part_and_key():
    text = (BENCHES / "README.md").read_text(encoding="utf-8").split("## device.json")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, flags=re.MULTILINE))
    assert set(rows) == set(KEYS)
    for part, keys in KEYS.items():
        named = set(re.findall(r"`([\w ]+)`", rows[part]))
        assert {key for key in keys - WAYS - {"left_out"} if key not in OF_CALL} <= named
    assert set(re.findall(r"`([\w]+)`", text)) >= OF_CALL | KEPT


def test_a_file_of_another_device_or_format_is_refused(tmp_path):
    out = file(tmp_path / "device.json")
    out.write_text(out.read_text().replace('"cpu"', '"NVIDIA"'))
    assert "name another --out" in run("--out", out).stderr
    out.write_text(out.read_text().replace('"format": 2', '"format": 1'))
    assert "is of format 1, this is 2: name another --out" in run("--out", out).stderr
