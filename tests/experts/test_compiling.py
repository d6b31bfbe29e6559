"""Compiled experts: the same facts and weights, the same answers to rounding; the given one left alone."""

import pytest
import torch

from merged_diffusion.experts.base import check_declaration
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.compiling import compiled
from merged_diffusion.experts.gaussian import GaussianExpert

# The compiler looks for the gradient of the network's input, and means to hide the warning it gets.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

FACTS = ("name", "gamma_range", "pixels", "levels", "image_shape", "conditional", "provenance")


def batch(expert):
    z = torch.randn(2, *expert.image_shape, generator=torch.Generator().manual_seed(0))
    return z, torch.tensor([-9.0, 3.0]).double(), torch.tensor([1, 2]) if expert.conditional else None


@pytest.fixture(params=["vdm/like", "edm/cond"])
def expert(public, request):
    kind = request.param.partition("/")[0]
    return getattr(public, kind)(request.param)


def answers(expert):
    z, gamma, cond = batch(expert)
    state = z.requires_grad_()
    out = expert(state, gamma, cond)
    return out.detach(), torch.autograd.grad(out.sum(), state)[0]


def test_facts_and_answers_stay(expert):
    twin = compiled(expert, backend="aot_eager")
    check_declaration(twin)
    assert [getattr(twin, fact) for fact in FACTS] == [getattr(expert, fact) for fact in FACTS]
    for found, expected in zip(answers(twin), answers(expert), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_network_of_the_twin_is_compiled_and_the_given_one_is_not(expert):
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph.forward

    twin = compiled(expert, backend=backend)
    answers(expert)
    assert not traced
    answers(twin)
    assert traced
    assert next(twin.parameters()) is next(expert.parameters())


def test_network_of_a_callable_is_compiled():
    net = torch.nn.Conv2d(1, 1, 3, padding=1)
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph.forward

    class Timeless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, z, time):
            return self.net(z)

    given = CallableExpert(
        Timeless().eval(), predicts="eps", time="gamma", input="vp", pixels="centred", levels=256,
        gamma_range=(-13.3, 5.0), image_shape=(1, 8, 8),
    )  # fmt: skip
    twin = compiled(given, backend=backend)
    z, gamma, _ = batch(given)
    torch.testing.assert_close(twin(z, gamma), given(z, gamma))
    assert len(traced) == 1


def test_expert_without_a_network_is_returned():
    gaussian = GaussianExpert((1, 2, 2), variance=0.25)
    assert compiled(gaussian) is gaussian


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_default_compiler_gives_the_same_answers(public):
    expert = public.vdm("vdm/like")
    for found, expected in zip(answers(compiled(expert)), answers(expert), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
