"""Sweeps as files: what ``sweep`` writes, with figures that can be checked by eye."""

import json
import shutil
import warnings
from pathlib import Path

import pytest


def threshold(eta, low=-13.3, high=8.764):
    gamma = low + eta * (high - low)
    return {"eta": eta, "gamma": gamma, "edm_sigma": 1.0, "logsnr": -gamma}


def expert(name, low, high, weights="aa"):
    known = {"name": name, "source": f"bundled:{name}", "gamma_range": [low, high], "weights_sha256": weights}
    return known | {"pixels": "ends", "levels": 256, "code_sha256": None, "provenance": {}}


def bits(mean, se, **more):
    return {
        "bits_per_dim": {"mean": mean, "se": se, "se_clustered": None},
        "evaluations": {"total": 100.4},
    } | more


def quality(value, se, name="frechet-digits"):
    figure = {"name": name, "value": value, "se": se, "n": 1000}
    return {
        "quality": {"primary": figure, "others": []},
        "evaluations": {"total": 120.0},
        "bits_per_dim": None,
    }


@pytest.fixture
def make_sweep(tmp_path):
    """Write a sweep of three rows; keywords replace parts of its table."""

    def make(
        name="sweep", *, metric="nll", summaries=None, etas=(0.3,), data=None, seed=0, sampler=None, **parts
    ):
        names = ["likelihood", *(f"eta {eta:.4f}" for eta in etas), "quality"]
        found = summaries or [bits(1.75, 0.05), *(bits(1.70, 0.04) for _ in etas), bits(1.80, 0.06)]
        best = names[1]
        rows = [
            {
                "name": row,
                "threshold": threshold(float(row.split()[1])) if row.startswith("eta") else None,
                "folder": row.replace(" ", "-"),
                "summary": summary,
                "paired": {"to": best, "difference": 0.05 * (k != 1), "se": 0.01, "se_images": 0.01, "n": 24},
                "error": None if summary is not None else {"type": "SolveError", "message": "diverged"},
            }
            for k, (row, summary) in enumerate(zip(names, found, strict=True))
        ]
        table = {
            "command": "sweep",
            "format": 1,
            "metric": metric,
            "data": {"name": "digits", "split": "test", "sha256": "e8", "n": 24, "modified": False}
            | (data or {}),
            "pair": {
                "name": "digits",
                "eta_range": [-13.3, 8.764],
                "experts": {
                    "likelihood": expert("small_vdm", -13.3, 5.0),
                    "quality": expert("small_edm", -12.43, 8.764),
                },
            },
            "settings": {"data": "digits", "seed": seed, "limit": 24}
            | ({"sampler": sampler} if sampler else {}),
            "rows": rows,
            "evaluations": {"spent": 500, "single_runs": 1000},
            "best": {"name": best, "eta": 0.3, "indistinguishable": [0.2, 0.4], "at_edge": False},
            "seconds": 60.0,
        } | parts
        folder = tmp_path / name
        folder.mkdir()
        (folder / "sweep.json").write_text(json.dumps(table))
        return folder

    return make


@pytest.fixture(scope="session")
def _pair_run(tmp_path_factory):
    from merged_diffusion.jobs.evaluate import evaluate
    from merged_diffusion.jobs.settings import Settings

    out = tmp_path_factory.mktemp("runs") / "pair"
    options = {"data": "digits", "limit": 6, "rtol": 1e-3, "atol": 1e-3, "threads": 1, "device": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the quality expert's tau, which is none of our business
        evaluate(Settings.of(options | {"eta": 0.3, "compare": True}), out=out)
    return out


@pytest.fixture
def pair_run(_pair_run, tmp_path):
    """A copy of a small run of the bundled digits, with both experts alone."""
    return Path(shutil.copytree(_pair_run, tmp_path / "pair"))
