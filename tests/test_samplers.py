"""Which option belongs to which sampler, refused without torch."""

import math
import subprocess
import sys

import pytest

from merged_diffusion.errors import UsageError
from merged_diffusion.ode.methods import Dopri5
from merged_diffusion.samplers import Ancestral, Deis, Dpmpp2m, Dpmpp3m, Heun, Ipndm, Ode, Sampling, UniPC


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "ddim"}, "possible are ode"),
        ({"decode": "best"}, "possible are argmax"),
        ({"sampler": "heun", "steps": 0}, "steps 0 is no whole number"),
        ({"sampler": "heun", "steps": 1}, "steps 1 is no whole number"),
        ({"sampler": "ancestral", "steps": -3}, "steps -3"),
        ({"sampler": "dpmpp-2m", "steps": 2.5}, "steps 2.5"),
        (
            {"steps": 10},
            "steps 10 belongs to heun, dpmpp-2m, dpmpp-3m, unipc, deis, ipndm, dpm-v3 and ancestral",
        ),
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
        ({"sampler": "unipc", "order": 4}, "order 4, possible are 2 and 3"),
        ({"sampler": "deis", "order": True}, "order True, possible are 2 and 3"),
        ({"sampler": "ipndm", "order": 4}, "order 4 belongs to unipc, deis and dpm-v3"),
        ({"sampler": "unipc", "steps": 0}, "steps 0 is no whole number"),
        ({"sampler": "ode", "sigmas": "edm"}, "sigmas edm belongs to heun, dpmpp-2m"),
        (
            {"sampler": "deis", "sigmas": "karras"},
            "possible are logsnr, edm, quadratic and the name of a file",
        ),
        ({"sampler": "deis", "sigmas": [1.0]}, "sigmas hold 1 numbers"),
        ({"sampler": "deis", "sigmas": [2.0, 1.0, 1.0]}, "number 3 is 1 and the one before it 1"),
        ({"sampler": "deis", "sigmas": [float("nan"), 1.0]}, "number 1 is nan"),
        ({"sampler": "deis", "sigmas": [2.0, 0.0]}, "number 2 is 0"),
        (
            {"sampler": "deis", "steps": 3, "sigmas": [3.0, 2.0, 1.0]},
            "steps 3, but 3 sigmas are 2 steps of deis",
        ),
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
    "sampler",
    [
        *(Ode(Dopri5(shared=True)), Ancestral(clip=True), Heun(7, 1, 2, 3), Dpmpp2m(), Dpmpp3m(sigmas="edm")),
        *(
            UniPC(order=2),
            Deis(3, sigmas=(80.0, 2.0, 0.7, 0.002)),
            Ipndm(),
            Heun(3, sigmas=(80.0, 2.0, 0.002)),
        ),
    ],
)
def test_words_of_a_choice_are_read_back(sampler):
    asked = Sampling(sampler, seed=3, decode="sample")
    assert Sampling.of(asked.as_dict()) == asked


def test_usual_grid_by_its_name_is_the_usual_one():
    assert UniPC(sigmas="logsnr") == UniPC()
    assert Deis(sigmas="edm") == Deis()
    assert "sigmas" not in Sampling(Deis(sigmas="edm")).as_dict()
    assert Sampling(Deis(sigmas="logsnr")).as_dict()["sigmas"] == "logsnr"


def test_file_of_a_grid_says_which_numbers_it_holds(tmp_path):
    file = tmp_path / "grid.txt"
    file.write_text("gamma\n8.5\n0\n\n-3\n")
    found = Sampling.of({"sampler": "deis", "sigmas": str(file)}).sampler
    assert found == Deis(2, sigmas=(math.exp(4.25), 1.0, math.exp(-1.5)))
    file.write_text("edm_sigma\n80\n1\n0.002\n")
    assert Sampling.of({"sampler": "heun", "sigmas": str(file)}).sampler == Heun(3, sigmas=(80.0, 1.0, 0.002))
    with pytest.raises(UsageError, match="steps 5, but 3 sigmas are 2 steps"):
        Sampling.of({"sampler": "deis", "sigmas": str(file), "steps": 5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80\n1\n", "its first line is '80'"),
        ("", "is empty"),
        ("gamma\n8\nx\n", "line 3: 'x' is no gamma"),
        ("gamma\n8\ninf\n", "line 3: 'inf' is no gamma"),
        ("gamma\n800\n1\n", "line 2: '800' is no gamma"),
        ("edm_sigma\n1\n2\n", "number 2 is 2 and the one before it 1"),
        ("edm_sigma\n1\n-2\n", "number 2 is -2"),
        ("gamma\n1\n", "hold 1 numbers"),
    ],
)
def test_file_that_is_no_grid_is_refused(tmp_path, text, message):
    file = tmp_path / "grid.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        Sampling.of({"sampler": "deis", "sigmas": str(file)})


def test_torch_is_not_needed():
    code = "import sys, merged_diffusion.samplers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
