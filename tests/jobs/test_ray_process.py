"""What runs in a worker of Ray, in this process: plans by a recipe, tasks, and the records of one process."""

import time
from dataclasses import replace

import numpy as np
import pytest
from tests.jobs.one_pool import crew

from merged_diffusion import Settings
from merged_diffusion.errors import DataError, ExpertError, ResourceError, RunMismatchError
from merged_diffusion.jobs.blocks import ALONE
from merged_diffusion.jobs.crew import Failed, Lost, Ready
from merged_diffusion.jobs.evaluation import Evaluation
from merged_diffusion.jobs.metrics import LIKELIHOOD, VariationalBound
from merged_diffusion.jobs.plan import place
from merged_diffusion.jobs.ray_process import RayProcess, sendable
from merged_diffusion.jobs.recipes import DrawRecipe, ScoreRecipe, require_same
from merged_diffusion.jobs.sample_run import SamplePlan, SampleRun
from merged_diffusion.samplers import Heun, Sampling
from merged_diffusion.sweeps import carry_out
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.sweep_recipe import SweepRecipe

FEW = {"data": "digits", "limit": 5, "tol": 0.05, "device": "cpu", "threads": 1, "batch_size": 1}
SAMPLING = Sampling(Heun(2), 3)
# Of the digits' experts, and of few images; a test of their own is elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def plan_of(metric=LIKELIHOOD, **words):
    return place(Settings.of(FEW | words), None, metric)[0]


@pytest.mark.parametrize("metric", [LIKELIHOOD, VariationalBound(4)], ids=["nll", "vlb"])
def test_records_by_a_worker_are_those_of_this_process(metric):
    plan = plan_of(metric, compare=True, **({} if metric == LIKELIHOOD else {"tol": None}))
    told = []
    with Evaluation(plan) as alone, Evaluation(plan, blocks=crew(ScoreRecipe.of(plan))) as other:
        alone.run()
        other.run(lambda model, record: told.append((model, record.id)))
        for name in plan.models.models:
            assert alone.held(name) == sorted(other.held(name), key=lambda record: record.id)
        assert len(told) == len(set(told)) == 5 * len(plan.models.models)
        assert other.seconds > 0
        assert other.summary().as_dict()["bits_per_dim"] == alone.summary().as_dict()["bits_per_dim"]


def test_a_sweep_by_a_worker_is_that_of_this_process(tmp_path):
    def swept(blocks_of, out):
        plan, _ = carry_out.place(Settings.of(FEW), [0.0, 0.2, 0.4], out, Request())
        with carry_out.Sweep(plan, out=out, blocks=blocks_of(plan)) as sweep:
            sweep.run()
            records = [each.held(each.plan.main) for each in sweep.rows._rows.values()]
            return sweep.result().as_dict(), [[replace(r, environment=None) for r in row] for row in records]

    one, records = swept(lambda _: ALONE, tmp_path / "one")
    two, others = swept(lambda plan: crew(SweepRecipe.of(plan, [0.0, 0.2, 0.4], None)), tmp_path / "two")
    assert others == records
    assert one["evaluations"] == two["evaluations"]
    assert one["best"] == two["best"]


def test_samples_by_a_worker_are_those_of_this_process(tmp_path):
    settings = Settings.of({"data": "", "pair": "digits", "batch_size": 2, "device": "cpu", "threads": 1})
    plan = SamplePlan.make(settings, SAMPLING, (0, 7)).on(None)
    for name, blocks in {"one": ALONE, "two": crew(DrawRecipe.of(plan))}.items():
        with SampleRun(plan, tmp_path / f"{name}.npz", blocks) as run:
            summary = run.run()
        assert summary["n_drawn"] == 7
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert all((one[key] == two[key]).all() for key in ("images", "ids"))


def test_a_worker_that_finds_other_images_under_the_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 17, (6, 1, 8, 8)).astype(np.uint8)
    np.savez("set.npz", images=images, levels=17)
    plan = plan_of(data="set.npz", pair="digits", limit=None)
    recipe = ScoreRecipe.of(plan)
    assert isinstance(RayProcess(".").prepare(recipe), Ready)
    images[0, 0, 0, 0] ^= 1
    np.savez("set.npz", images=images, levels=17)
    said = RayProcess(".").prepare(recipe)
    assert isinstance(said.error, RunMismatchError)
    assert "data.sha256" in str(said.error)
    (tmp_path / "set.npz").unlink()
    assert isinstance(RayProcess(".").prepare(recipe).error, DataError | ValueError)
    with pytest.raises(RunMismatchError, match="tol"):
        require_same(plan_of(tol=0.01), ScoreRecipe.of(plan_of()).expected)


def test_what_an_expert_raises_can_be_read_elsewhere():
    class OwnError(Exception):
        pass

    assert str(sendable(OwnError("deep inside"))) == "OwnError: deep inside"
    assert type(sendable(OwnError("x"))) is RuntimeError
    assert isinstance(sendable(MemoryError()), ResourceError)
    ours = ExpertError("no", hint="yes", expert="e")
    assert sendable(ours) is ours
    assert isinstance(sendable(SystemExit(3)), Exception)


def test_a_worker_says_what_it_does_while_it_does_it():
    process = RayProcess(".")
    plan = plan_of(limit=3, tol=0.02)
    assert isinstance(process.prepare(ScoreRecipe.of(plan)), Ready)

    class Slowly:
        def run(self, plans, tell):
            for image in range(3):
                tell(("", "merged"), [image], image)
                time.sleep(0.1)
            raise ZeroDivisionError("at the end")

    parts = list(process.compute(Slowly()))
    assert len(parts) >= 3
    assert isinstance(parts[-1][-1], Failed)
    assert isinstance(parts[-1][-1].error, ZeroDivisionError)
    assert not any(isinstance(message, Lost) for part in parts for message in part)
