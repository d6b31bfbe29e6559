"""``--bpd-tol``: a pilot chooses the tolerance, or says why it cannot."""

import re

import pytest

from merged_diffusion.jobs import pilot


def test_finer_tolerance_is_chosen_and_the_error_kept(run_cli, pair):
    # The trace of these experts is the same for every Rademacher probe: all that differs is the path.
    options = ("--eta", 0.5, "--limit", 6, "--json")
    exact = run_cli(*pair(*options, "--rtol", 1e-10, "--atol", 1e-10, "--dtype", "float64")).json
    error = {}
    for wish in (5e-2, 4e-4):
        found = run_cli(*pair(*options, "--preset", "fast", "--bpd-tol", wish, "--dtype", "float64"))
        assert found.code == 0, found.err
        assert "discretisation error" in found.err
        asked = found.json["settings"]
        assert (asked["method"], asked["bpd_tol"]) == ("adams", wish)
        assert (asked["tol"] == 0.03) == (wish == 5e-2)
        error[wish] = abs(found.json["bits_per_dim"]["mean"] - exact["bits_per_dim"]["mean"])
        assert error[wish] < wish
    assert error[4e-4] < error[5e-2]


def test_wish_below_the_probe_noise_is_refused_with_the_floor_and_the_cost(run_cli):
    result = run_cli("nll", "--data", "digits", "--limit", 4, "--bpd-tol", 1e-5, "--out", "run", "--json")
    assert result.code == 2
    fields = result.json["error"]["fields"]
    assert 1e-3 < fields["floor"] < 1e-2
    assert "--probe exact (64 products an evaluation in place of 1)" in result.json["error"]["hint"]


def test_what_is_advised_is_not_refused(run_cli):
    words = ("nll", "--data", "digits", "--limit", 2, "--preset", "fast", "--dry-run", "--bpd-tol")
    hint = run_cli(*words, 2e-3).err
    probes = re.search(r"or for --probes (\d+) ", hint)[1]
    assert 2 <= int(probes) <= 12
    assert run_cli(*words, re.search(r"ask for (\S+) or more", hint)[1]).code == 0
    assert run_cli(*words, 2e-3, "--probes", probes).code == 0
    most = run_cli(*words, 1e-5, "--probes", 63)
    assert most.code == 2
    assert "--probe exact (64 products an evaluation in place of 63) without --probes 63" in most.err


def test_floor_is_known_where_a_leg_is_too_short_for_one_probe_to_tell(run_cli):
    # Three nodes lie between the ends of the first leg: 0.17 of gamma.
    short = ("--eta", 0.01, "--extrapolate", "--limit", 4, "--json")
    alone = run_cli("nll", "--data", "digits", *short)
    assert alone.json["bits_per_dim"]["se_probe"] is None
    result = run_cli("nll", "--data", "digits", *short, "--bpd-tol", 1e-5)
    assert result.code == 2
    assert 1e-3 < result.json["error"]["fields"]["floor"] < 1e-2


def test_run_goes_on_with_the_tolerance_that_it_recorded(run_cli, pair, monkeypatch):
    options = ("--eta", 0.5, "--preset", "fast", "--bpd-tol", 4e-4, "--out", "run", "--json")
    first = run_cli(*pair("--limit", 2, *options))
    assert first.code == 0, first.err
    monkeypatch.setattr(pilot, "_search", None)
    more = run_cli(*pair("--limit", 4, *options))
    assert more.code == 0, more.err
    assert more.json["settings"]["tol"] == first.json["settings"]["tol"] < 0.03
    other = run_cli(*pair("--limit", 4, "--eta", 0.5, "--out", "run", "--tol", 0.003))
    assert other.code == 7


def test_the_pilot_is_the_same_whatever_is_selected(run_cli):
    words = ("nll", "--data", "digits", "--dry-run", "--bpd-tol", 5e-3)
    told = [
        re.search("bpd-tol 0.005: (.*)", run_cli(*words, *chosen).err)[1]
        for chosen in (("--limit", 1), ("--ids", "7:12"), ("--limit", 40, "--shard", "1/2"))
    ]
    assert "on 16 images" in told[0]
    assert told == [told[0]] * 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--bpd-tol", "0"], "--bpd-tol 0.0 is no error"),
        (["--bpd-tol", "nan"], "--bpd-tol nan is no error"),
        (["--bpd-tol", "1e-3", "--tol", "0.01"], "--tol was given, too"),
        (["--bpd-tol", "1e-3", "--rtol", "1e-4"], "--rtol was given, too"),
        (["--bpd-tol", "1e-3", "--method", "dopri5"], "method dopri5 was given, too"),
        (["--bpd-tol", "1e-3", "--preset", "paper"], "method dopri5 was given"),
    ],
)
def test_contradiction_is_refused(run_cli, pair, options, text):
    result = run_cli(*pair("--eta", 0.5, *options))
    assert result.code == 2
    assert text in result.err


def test_error_that_no_tolerance_reaches_is_told(monkeypatch, run_cli, pair):
    monkeypatch.setattr(pilot, "LEVELS", 1)
    result = run_cli(*pair("--eta", 0.5, "--limit", 4, "--preset", "fast", "--bpd-tol", 4e-4))
    assert result.code == 2
    assert "bpd-tol 0.0004 was not reached: tol 0.03" in result.err
