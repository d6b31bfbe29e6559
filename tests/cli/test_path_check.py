"""``--path-check pilot``: a pilot decides how much of the path's correction is applied, and is kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.errors import RunMismatchError, UsageError
from merged_diffusion.jobs import path_pilot
from merged_diffusion.jobs.blocks import FixedShare
from merged_diffusion.jobs.evaluation import Evaluation
from merged_diffusion.jobs.plan import place
from merged_diffusion.likelihood.path_evidence import PathEvidence

DIGITS = ("nll", "--data", "digits", "--quad-check", "off", "--json", "--batch-size", 8)


def recorded(folder):
    return json.loads(Path(folder, "settings.json").read_text())["settings"]


def test_a_pilot_is_kept_and_every_shard_and_limit_has_the_same(run_cli):
    words = (*DIGITS, "--path-check", "pilot")
    found = run_cli(*words, "--limit", 4, "--out", "run")
    assert found.code == 0, found.err
    kept = recorded("run")["path_evidence"]
    assert kept["n"] == 16
    assert found.json["settings"]["path_evidence"] == kept
    shard = run_cli(*words, "--limit", 6, "--shard", "1/2", "--out", "sharded")
    assert shard.code == 0, shard.err
    assert recorded("sharded")["path_evidence"] == kept
    own = {record.id: record for record in md.load_scores("sharded").records}
    off = run_cli(*DIGITS, "--limit", 6, "--out", "off")
    assert "path_evidence" not in off.json["settings"]
    assert off.json["settings"]["path_check"] == "off"
    assert "a finer tol confirms" in run_cli("runs", "show", "run").out
    plain = {record.id: record for record in md.load_scores("off").records}
    evidence = PathEvidence.from_dict(kept)
    for record in md.load_scores("run").records:
        beside = plain[record.id]
        assert record.terms_nats == own.get(record.id, record).terms_nats
        assert record.terms_nats["trace"] == beside.terms_nats["trace"]
        assert beside.terms_nats["path_correction"] == 0  # a network's own word is no evidence
        size = np.array([beside.path_error])
        nats = abs(record.terms_nats["path_correction"])
        assert nats == pytest.approx(evidence.applied(size)[0] * 64 * np.log(2), rel=1e-9)
        assert record.path_error == pytest.approx(evidence.error(size)[0], rel=1e-9)


def test_a_run_goes_on_with_what_its_pilot_found(run_cli, monkeypatch):
    words = (*DIGITS, "--path-check", "pilot", "--out", "run")
    asked = []

    def measured(*_):
        asked.append(1)
        return PathEvidence(0.9, 0.1, 0.5, 1e-4, 16)

    monkeypatch.setattr(path_pilot, "_measured", measured)
    for limit in (2, 3):
        assert run_cli(*words, "--limit", limit).code == 0
    assert asked == [1]
    assert run_cli(*words[:-2], "--limit", 2, "--compare", "--out", "three").code == 0
    assert asked == [1] * 4  # each model has evidence of its own
    assert run_cli(*DIGITS, "--limit", 4, "--out", "run").code == 7  # which would correct otherwise


PILOTED = {"data": "digits", "limit": 2, "tol": 0.01, "path_check": "pilot", "quad_check": "off"}
EVIDENCE = [PathEvidence(share, 0.1, 0.5, 1e-4, 16) for share in (0.9, 0.8, 0.7)]


def test_a_worker_with_an_empty_share_has_the_evidence_of_the_others(run_cli, monkeypatch):
    found = iter(EVIDENCE)
    monkeypatch.setattr(path_pilot, "_measured", lambda *_: next(found))
    words = (*DIGITS, "--path-check", "pilot", "--limit", 2, "--tol", 0.01, "--out", "run")
    for index in (3, 0, 1):
        result = run_cli(*words, "--shard", f"{index}/4")
        assert result.code == 0, result.err
    assert recorded("run")["path_evidence"] == EVIDENCE[0].as_dict()


def test_of_two_pilots_at_once_the_first_that_is_recorded_counts(tmp_path, monkeypatch):
    settings = md.Settings.of(PILOTED)
    found = iter(EVIDENCE)

    def measured(*_):
        own = next(found)
        if own is EVIDENCE[0]:  # another worker is faster
            md.evaluate(settings, out=tmp_path / "run", shard=(0, 2))
        return own

    monkeypatch.setattr(path_pilot, "_measured", measured)
    md.evaluate(settings, out=tmp_path / "run", shard=(1, 2))
    assert recorded(tmp_path / "run")["path_evidence"] == EVIDENCE[1].as_dict()
    assert len(md.load_scores(tmp_path / "run").records) == 2


def test_a_run_that_another_worker_began_is_gone_on_with_and_one_without_a_pilot_is_refused(tmp_path):
    settings = md.Settings.of(PILOTED)
    plan, _ = place(settings, None)
    plans = [replace(plan, paths=paths) for paths in ({"merged": e} for e in EVIDENCE[:2])]
    with (
        Evaluation(plans[0], out=tmp_path / "run", blocks=FixedShare((0, 2))),
        Evaluation(plans[1], out=tmp_path / "run", blocks=FixedShare((1, 2))) as second,
    ):
        assert second.plan.paths == plans[0].paths
    with Evaluation(plan, out=tmp_path / "plain"):
        pass
    with pytest.raises(RunMismatchError, match="path_evidence"):
        Evaluation(plans[0], out=tmp_path / "plain", blocks=FixedShare((1, 2)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "dopri5"), "dopri5 corrects nothing"),
        (("--tol", "2e-7"), "a quarter of it"),
    ],
)
def test_what_has_no_correction_or_no_finer_tolerance_is_refused(run_cli, words, said):
    result = run_cli(*DIGITS, "--limit", 2, "--path-check", "pilot", *words)
    assert result.code == 2
    assert said in result.out


def test_a_sweep_is_refused(tmp_path):
    with pytest.raises(UsageError, match="pilot of their own"):
        md.sweep(md.Settings(data="digits", limit=2, path_check="pilot"), out=tmp_path / "sweep")
