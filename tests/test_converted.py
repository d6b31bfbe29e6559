"""``nll`` on the bundled pair gives the same bits before and after ``experts convert``."""

import json

from merged_diffusion.cli import main
from merged_diffusion.runs import open_run


def test_bundled_pair_scores_alike_before_and_after_conversion(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")

    def bits(out, *experts):
        words = ["nll", "--data", "digits", "--ids", "0:4", "--rtol", "1e-3", "--batch-size", "4"]
        words += ["--eta", "0.15", "--threads", "1", "--device", "cpu", "--out", out, "--json", "--quiet"]
        assert main([*words, *experts]) == 0
        assert json.loads(capsys.readouterr().out)["n"] == 4
        return {record.id: record.bits_per_dim for record in open_run(tmp_path / out).records()}

    for kind in ("vdm", "edm"):
        assert main(["experts", "convert", f"bundled:digits-{kind}", kind]) == 0
    capsys.readouterr()
    assert bits("after", "--likelihood-expert", "vdm", "--quality-expert", "edm") == bits("before")
