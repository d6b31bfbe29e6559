"""`benches/device.py`: its smallest part runs, its keys are stable, and a part can be repeated alone."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benches" / "device.py"


def run(*arguments):
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--smallest", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_part_is_measured_kept_and_repeated_alone(tmp_path):
    out = tmp_path / "device.json"
    kept = {"error": None, "took_seconds": 1.0}
    out.write_text(json.dumps({"format": 1, "device": "cpu", "smallest": True, "parts": {"nll": kept}}))
    done = run("--out", out, "--part", "waits")
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found) == {"format", "device", "smallest", "torch", "parts"}
    assert found["parts"]["nll"] == kept  # what is there is not done again
    assert set(found["parts"]["waits"]) == {"per_call", "left_out", "error", "took_seconds"}
    assert found["parts"]["waits"]["left_out"]["per_call"]  # what a CPU cannot tell says why


def test_a_file_of_another_device_is_refused(tmp_path):
    out = tmp_path / "device.json"
    out.write_text(json.dumps({"format": 1, "device": "NVIDIA", "smallest": True, "parts": {}}))
    assert "name another --out" in run("--out", out).stderr
