"""A warning names a line of the user's own, not one of the package or of a decorator on the way."""

import runpy
import warnings
from pathlib import Path

import pytest
import torch

from merged_diffusion.caller import warn_caller

SCRIPTS = {
    "likelihood": "md.log_likelihood(net, images, dequantise='decoder')",
    "density": "md.log_density(net, images.images / 8.5 - 1)",
    "options": "md.log_likelihood(net, images, solver=md.Dopri5(rtol=1e-8, atol=1e-8), dequantise='decoder')",
    "bound": "md.variational_bound(net, images)",
}
HEAD = """import torch, merged_diffusion as md
@torch.no_grad()
def noise(z, gamma):
    return -0.5 * z
facts = dict(predicts="eps", time="gamma", input="vp", pixels="ends", levels=17, gamma_range=(-7.0, 5.0))
net = md.CallableExpert(lambda z, gamma: -0.5 * z, **facts, image_shape=(1, 8, 8))
images = md.load_data("digits").select(ids=(0, 2))
"""


@pytest.mark.parametrize("call", SCRIPTS)
@pytest.mark.filterwarnings("default")
def test_a_warning_names_the_line_that_called(call: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(HEAD + SCRIPTS[call] + "\n")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        runpy.run_path(str(script), run_name="own")
    own = [one for one in told if issubclass(one.category, UserWarning)]
    assert own, "the network does not denoise, which is warned of"
    last = HEAD.count("\n") + 1
    assert {(Path(one.filename).name, one.lineno) for one in own} == {("script.py", last)}


def test_decorators_on_the_way_are_not_the_users() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.no_grad()(warn_caller)("narrow")
    assert Path(told[0].filename).samefile(__file__)


def test_a_line_is_warned_of_once() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            warn_caller("narrow")
    assert len(told) == 1


def test_code_that_is_nowhere_is_warned_of_too() -> None:
    for own in ({}, {"__name__": None}):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            exec("warn_caller('narrow')", {"warn_caller": warn_caller, **own})  # noqa: S102
        assert [str(one.message) for one in told] == ["narrow"]
