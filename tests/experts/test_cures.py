"""The hints to what a network raises or returns: each is tried, and cures."""

import pytest
import torch
from torch import nn

import merged_diffusion as md
from merged_diffusion.errors import ExpertError
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.scores.prepared import frozen

GAMMAS = torch.linspace(-13.3, 5.0, 1000, dtype=torch.float64)


def declared(net, **changes):
    words = {"predicts": "eps", "time": "gamma", "input": "vp", "pixels": "centred", "levels": 256}
    words |= {"gamma_range": (-13.3, 5.0), "image_shape": (3, 8, 8)}
    return md.CallableExpert(net, **(words | changes))


def noise(z, gamma):
    return z * torch.sigmoid(gamma).sqrt().view(-1, 1, 1, 1)


def by_table(z, level):
    return z * (level.view(-1, 1, 1, 1) + 14) / 20


EMBEDDING = nn.Embedding.from_pretrained(GAMMAS.float().view(-1, 1))
TABLE = GAMMAS.float()
# What takes whole timesteps: networks with a table of embeddings, schedules that are indexed.
WHOLE = {
    "embedding": lambda z, t: by_table(z, EMBEDDING(t)),
    "indexed": lambda z, t: by_table(z, TABLE[t]),
    "gather": lambda z, t: by_table(z, TABLE.gather(0, t)),
    "index_select": lambda z, t: by_table(z, TABLE.index_select(0, t)),
    "take": lambda z, t: by_table(z, TABLE.take(t)),
    "one_hot": lambda z, t: by_table(z, nn.functional.one_hot(t, 1000).float() @ TABLE),
    "list": lambda z, t: by_table(z, torch.tensor([TABLE.tolist()[i] for i in t])),
}


@pytest.mark.parametrize("name", WHOLE)
def test_network_of_whole_timesteps_is_told_so_and_cured_by_it(name):
    net = WHOLE[name]
    with pytest.raises(ExpertError) as caught:
        check_expert(declared(net, time="timestep", schedule=GAMMAS))
    assert "t.round().long()" in caught.value.hint
    cured = declared(lambda z, t: net(z, t.round().long()), time="timestep", schedule=GAMMAS)
    gamma = torch.tensor([-13.3, 5.0], dtype=torch.float64)
    assert cured(torch.ones(2, 3, 8, 8), gamma).isfinite().all()


HALF = nn.Conv2d(3, 3, 1).half().requires_grad_(requires_grad=False)
LINEAR = nn.Linear(8, 8).half().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("net", [HALF, LINEAR], ids=["convolution", "linear"])
def test_network_of_half_precision_is_told_so_and_cured_by_it(net):
    with pytest.raises(ExpertError) as caught:
        check_expert(declared(lambda z, gamma: net(z)))
    assert "net(z.half(), t.half()).float()" in caught.value.hint
    z = torch.ones(2, 3, 8, 8)
    assert declared(lambda z, gamma: net(z.half()).float())(z, torch.zeros(2)).dtype == torch.float32


class Cast(nn.Module):
    """A module with casts of its own, which is computed in float32 as any other."""

    def __init__(self, casts):
        super().__init__()
        self.net, self.casts = nn.Conv2d(3, 3, 1).bfloat16(), casts

    def forward(self, z, gamma):
        return self.net(z.bfloat16()).float() if self.casts else self.net(z)


def test_module_with_casts_of_its_own_is_told_to_leave_them_out_and_cured_by_it():
    host = {"device": torch.device("cpu"), "dtype": torch.float32}
    refused = declared(Cast(casts=True).eval())
    with frozen([refused], **host), pytest.raises(ExpertError) as caught:
        check_expert(refused)
    assert "net.float() without casts of its own" in caught.value.hint
    assert "net(z.bfloat16(), t).float()" in caught.value.hint
    hidden = Cast(casts=True).eval().requires_grad_(requires_grad=False)
    z = torch.ones(2, 3, 8, 8)
    for cured in (Cast(casts=False).eval(), lambda z, t: hidden(z, t)):
        expert = declared(cured)
        with frozen([expert], **host):
            assert expert(z, torch.zeros(2)).dtype == torch.float32


class Output:
    """As diffusers' networks return it."""

    def __init__(self, sample):
        self.sample = sample


RETURNED = {
    "variance": (lambda z, g: torch.cat([noise(z, g), z], 1), "return out[:, :3]", lambda out: out[:, :3]),
    "half": (lambda z, g: noise(z, g).half(), "return out.float()", lambda out: out.float()),
    "bfloat16": (lambda z, g: noise(z, g).bfloat16(), "return out.float()", lambda out: out.float()),
    "double": (lambda z, g: noise(z.double(), g.double()), "return out.float()", lambda out: out.float()),
    "channels last": (
        lambda z, g: noise(z, g).permute(0, 2, 3, 1),
        "return out.permute(0, 3, 1, 2)",
        lambda out: out.permute(0, 3, 1, 2),
    ),
    "tuple": (lambda z, g: (noise(z, g), 1), "return out[0]", lambda out: out[0]),
    "dict": (lambda z, g: {"eps": noise(z, g)}, "return out['eps']", lambda out: out["eps"]),
    "object": (lambda z, g: Output(noise(z, g)), "return out.sample", lambda out: out.sample),
}


@pytest.mark.parametrize("name", RETURNED)
def test_output_of_another_kind_is_told_what_to_return_and_cured_by_it(name):
    net, said, cure = RETURNED[name]
    with pytest.raises(ExpertError) as caught:
        check_expert(declared(net))
    assert said in caught.value.hint
    check_expert(declared(lambda z, gamma: cure(net(z, gamma))))


def test_float64_input_keeps_its_precision():
    with pytest.raises(ExpertError, match=r"return out\.to\(torch\.float64\)"):
        check_expert(declared(lambda z, gamma: noise(z, gamma).float()), dtype=torch.float64)


def test_output_that_is_like_none_of_these_gets_no_hint():
    with pytest.raises(ExpertError, match="returned shape") as caught:
        check_expert(declared(lambda z, gamma: z[:, :, :4]))
    assert caught.value.hint is None
