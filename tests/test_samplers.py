"""Which option belongs to which sampler, refused without torch."""

import subprocess
import sys

import pytest

from merged_diffusion.errors import UsageError
from merged_diffusion.ode.methods import Dopri5
from merged_diffusion.samplers import Ancestral, Dpmpp2m, Heun, Ode, Sampling


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "ddim"}, "possible are ode"),
        ({"decode": "best"}, "possible are argmax"),
        ({"sampler": "heun", "steps": 0}, "steps 0 is no whole number"),
        ({"sampler": "heun", "steps": 1}, "steps 1 is no whole number"),
        ({"sampler": "ancestral", "steps": -3}, "steps -3"),
        ({"sampler": "dpmpp-2m", "steps": 2.5}, "steps 2.5"),
        ({"steps": 10}, "steps 10 belongs to ancestral and heun and dpmpp-2m"),
        ({"sampler": "ancestral", "rtol": 1e-5}, "rtol 1e-05 belongs to ode"),
        ({"sampler": "heun", "method": "dopri5"}, "method dopri5 belongs to ode"),
        ({"sampler": "heun", "clip": True}, "clip True belongs to ancestral"),
        ({"sampler": "ancestral", "s_churn": 1.0}, "s-churn 1.0 belongs to heun"),
        ({"sampler": "heun", "s_churn": -1.0}, "s-churn -1.0"),
        ({"sampler": "heun", "s_noise": float("nan")}, "s-noise nan"),
        ({"sampler": "heun", "s_min": 2.0, "s_max": 1.0}, "s-min 2.0 lies above s-max 1.0"),
        ({"rtol": 0.0}, "rtol = 0.0"),
        ({"method": "adams", "tol": 0.1}, "tol 0.1 lies above 0.01"),
        ({"method": "adams", "rtol": 1e-5}, "rtol 1e-05 belongs to method dopri5"),
        ({"seed": -1}, "seed -1"),
        ({"step_control": "constant"}, "possible are"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Sampling.of(options)


def test_options_of_a_sampler_are_completed_and_no_others():
    assert Sampling().as_dict() == {
        "seed": 0, "sampler": "ode", "method": "adams", "step_control": "per-image", "tol": 1e-3,
        "h_max": 0.7, "decode": "argmax",
    }  # fmt: skip
    assert Sampling(Ode(Dopri5(rtol=1e-4))).as_dict() == {
        "seed": 0, "sampler": "ode", "method": "dopri5", "step_control": "per-image", "rtol": 1e-4,
        "atol": 1e-5, "decode": "argmax",
    }  # fmt: skip
    assert Sampling(Ancestral()).as_dict() == {
        "seed": 0, "sampler": "ancestral", "steps": 256, "clip": False, "decode": "argmax",
    }  # fmt: skip
    heun = Sampling(Heun(s_churn=40)).as_dict()
    assert (heun["steps"], heun["s_churn"], heun["s_noise"]) == (18, 40.0, 1.0)
    assert "clip" not in heun
    assert Sampling.of({"sampler": "dpmpp-2m"}) == Sampling(Dpmpp2m(20))


@pytest.mark.parametrize(
    "sampler", [Ode(Dopri5(shared=True)), Ancestral(clip=True), Heun(7, 1, 2, 3), Dpmpp2m()]
)
def test_words_of_a_choice_are_read_back(sampler):
    asked = Sampling(sampler, seed=3, decode="sample")
    assert Sampling.of(asked.as_dict()) == asked


def test_torch_is_not_needed():
    code = "import sys, merged_diffusion.samplers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
