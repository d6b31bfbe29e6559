"""Networks of one's own through ``nll``: the same likelihood as by hand-written experts, to 1e-6."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from merged_diffusion.cli import main
from merged_diffusion.data import load_data
from merged_diffusion.runs import open_run

# Each network twice: declared, and as an expert written out with the call and the formula in place.
NETWORKS = '''
import numpy as np
import torch
from torch import nn

import merged_diffusion as md

FACTS = {"levels": 17, "image_shape": (1, 8, 8)}
LOW, HIGH = -7.0, 5.0


class Net(nn.Module):
    """Smooth in its input, and unlike any denoiser; of ten classes, or of none."""

    def __init__(self, n_classes=0, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 1, 3, padding=1)
            self.time = nn.Linear(1, 6)
            self.label = nn.Embedding(n_classes, 6) if n_classes else None

    def forward(self, x, time, label=None):
        emb = self.time(time[:, None] / 10)
        if self.label is not None:
            emb = emb + self.label(label)
        return self.last(torch.tanh(self.first(x) + emb[:, :, None, None]))


class ByHand(nn.Module):
    """``eps_hat(z, gamma, alpha, sigma)`` of one's own, without the package's adapters."""

    conditional, levels, image_shape = False, 17, (1, 8, 8)

    def __init__(self, net, eps_hat, gamma_range=(LOW, HIGH), pixels="centred"):
        super().__init__()
        self.net, self.eps_hat, self.gamma_range, self.pixels = net, eps_hat, gamma_range, pixels
        self.name = "by hand"
        self.eval()

    def forward(self, z, gamma, cond=None):
        alpha, sigma = (torch.sigmoid(s * gamma).sqrt().view(-1, 1, 1, 1) for s in (-1, 1))
        return self.eps_hat(self.net, z, gamma, alpha, sigma).to(z.dtype)


def plain():
    return md.CallableExpert(
        Net().eval(), predicts="v", time="gamma", input="vp", pixels="centred",
        gamma_range=(LOW, HIGH), **FACTS
    )


def plain_by_hand():
    return ByHand(Net(), lambda net, z, gamma, alpha, sigma: sigma * z + alpha * net(z, gamma.to(z.dtype)))


def conditional():
    return md.CallableExpert(
        Net(10).eval(), predicts="eps", time="log_edm_sigma_over_4", input="edm", pixels="ends",
        gamma_range=(LOW, HIGH), conditional=True, **FACTS
    )


def of_class(k):
    def eps_hat(net, z, gamma, alpha, sigma):
        return net(z / alpha, (gamma / 8).to(z.dtype), torch.full((len(z),), k))

    return lambda: ByHand(Net(10), eps_hat, pixels="ends")


for k in range(10):
    globals()[f"class_{k}"] = of_class(k)


def unet():
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), layers_per_block=1,
            down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), norm_num_groups=4,
            add_attention=False,
        ).eval()


def scheduler(predicts):
    from diffusers import DDPMScheduler

    return DDPMScheduler(prediction_type=predicts)


def diffusers_by_hand(predicts):
    signal = scheduler(predicts).alphas_cumprod.double().numpy()
    gammas = np.log((1 - signal) / signal)

    def eps_hat(net, z, gamma, alpha, sigma):
        out = net(z, torch.from_numpy(np.interp(gamma.numpy(), gammas, np.arange(1000.0)))).sample
        if predicts == "epsilon":
            return out
        return (z - alpha * out) / sigma if predicts == "sample" else sigma * z + alpha * out

    return ByHand(unet(), eps_hat, (gammas[0], gammas[-1]), pixels="ends")


def epsilon(): return md.DiffusersExpert(unet(), scheduler("epsilon"), levels=17)
def sample(): return md.DiffusersExpert(unet(), scheduler("sample"), levels=17)
def v_prediction(): return md.DiffusersExpert(unet(), scheduler("v_prediction"), levels=17)
def epsilon_by_hand(): return diffusers_by_hand("epsilon")
def sample_by_hand(): return diffusers_by_hand("sample")
def v_prediction_by_hand(): return diffusers_by_hand("v_prediction")
'''


@pytest.fixture
def nll(tmp_path, monkeypatch, capsys):
    """``nll`` in float64 under one expert of the file; its exit code and its records by id."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    (tmp_path / "networks.py").write_text(NETWORKS)

    def run(name, *options, ids="0:3"):
        code = main(
            [
                *("nll", "--data", "digits", "--ids", ids, "--expert", f"networks.py:{name}"),
                *("--rtol", "1e-4", "--atol", "1e-4", "--dtype", "float64", "--threads", "1"),
                *("--device", "cpu", "--out", name, "--json", "--quiet", *options),
            ]
        )
        summary = json.loads(capsys.readouterr().out)
        values = {} if code else {r.id: r.bits_per_dim for r in open_run(tmp_path / name).records()}
        return SimpleNamespace(code=code, summary=summary, bits=values)

    return run


def agree(one, two):
    assert one.keys() == two.keys()
    np.testing.assert_allclose([one[i] for i in one], [two[i] for i in one], rtol=1e-6)


@pytest.mark.parametrize("name", ["plain", "epsilon", "sample", "v_prediction"])
def test_a_declared_network_scores_as_one_written_out(nll, name):
    declared, by_hand = nll(name), nll(f"{name}_by_hand")
    assert declared.code == by_hand.code == 0
    agree(declared.bits, by_hand.bits)


def test_one_class_for_all_images_is_the_network_of_that_class(nll):
    labelled = nll("conditional", "--labels", "3")
    assert labelled.summary["settings"]["labels"] == 3
    agree(labelled.bits, nll("class_3").bits)


def test_labels_travel_with_their_images(nll):
    labels = dict(enumerate(load_data("digits", split="test").labels.tolist()))
    labelled = nll("conditional", "--labels", "from-data", ids="0:4")
    assert len({labels[i] for i in labelled.bits}) > 1
    for label in {labels[i] for i in labelled.bits}:
        of_it = nll(f"class_{label}", ids="0:4").bits
        ids = [i for i in labelled.bits if labels[i] == label]
        agree({i: labelled.bits[i] for i in ids}, {i: of_it[i] for i in ids})


def test_a_class_conditional_network_without_labels_is_refused(nll):
    refused = nll("conditional")
    assert refused.code == refused.summary["code"] == 2
    assert "--labels" in refused.summary["error"]["hint"]


def test_a_class_that_the_network_has_not_is_refused(nll):
    refused = nll("conditional", "--labels", "10")
    assert refused.code == refused.summary["code"] == 4
    assert "index out of range" in refused.summary["error"]["message"]
