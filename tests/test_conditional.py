"""A class-conditional EDM in its public pickle, merged with a VDM in addtt's file, through ``nll``.

The same networks called by hand, with the paper's formulas in place of the experts, must score alike.
"""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file
from tests.asked import asked
from tests.checkpoints import writers

import merged_diffusion as md
from merged_diffusion.cli import main
from merged_diffusion.runs import open_run

REFERENCE = Path(__file__).parent / "reference"
N_IMAGES, LABELS = 4, (7, 2, 0, 2)
TOLERANCE = 1e-4

BY_HAND = '''
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from merged_diffusion.experts.nets.ddpmpp import Ddpmpp
from merged_diffusion.experts.nets.vdm_unet import VdmUnet

REFERENCE = Path("{reference}")


class ByHand(nn.Module):
    """``eps_hat(net, z, gamma)``, without the package's experts."""

    conditional, levels, image_shape = False, 256, (3, 8, 8)

    def __init__(self, net, file, eps_hat, gamma_range, pixels):
        super().__init__()
        self.model, self.eps_hat = net, eps_hat
        self.name, self.gamma_range, self.pixels = file, gamma_range, pixels
        self.load_state_dict(load_file(REFERENCE / file / "weights.safetensors"))
        self.eval()

    def forward(self, z, gamma, cond=None):
        return self.eps_hat(self.model, z, gamma).to(z.dtype)


def vdm():
    net = VdmUnet(3, embedding_dim=16, n_blocks=2, norm_groups=4)
    clock = lambda net, z, gamma: net(z, (gamma + 13.3) / 18.3)
    return ByHand(net, "vdm/like", clock, (-13.3, 5.0), "centred")


def of_class(k):
    def eps_hat(net, z, gamma):
        alpha, sigma = (torch.sigmoid(sign * gamma).sqrt().view(-1, 1, 1, 1) for sign in (-1, 1))
        s, row = sigma / alpha, torch.zeros(len(z), 10, dtype=z.dtype)
        row[:, k] = 1
        scale = (s**2 + 0.25).sqrt()
        out = net(z / alpha / scale, gamma / 8, row)
        denoised = 0.25 / scale**2 * z / alpha + s * 0.5 / scale * out
        return (z - alpha * denoised) / sigma

    def edm():
        net = Ddpmpp(
            (3, 8, 8), model_channels=16, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[4],
            label_dim=10, augment_dim=9,
        )
        return ByHand(net, "edm/cond", eps_hat, (-12.43, 8.764), "ends")

    return edm


for k in range(10):
    globals()[f"class_{{k}}"] = of_class(k)
'''


def reference(name):
    folder = REFERENCE / name
    return json.loads((folder / "config.json").read_text()), load_file(folder / "weights.safetensors")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Both checkpoints, the experts by hand and four images with classes, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    writers.write_edm(tmp_path / "cond.pkl", *reference("edm/cond"))
    writers.write_addtt(tmp_path / "vdm", *reference("vdm/like"))
    (tmp_path / "by_hand.py").write_text(BY_HAND.format(reference=REFERENCE))
    images = np.random.RandomState(0).randint(256, size=(N_IMAGES, 3, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.array(LABELS), ids=np.arange(N_IMAGES))
    return tmp_path


@pytest.fixture
def nll(files, capsys):
    """``nll`` in float64 of a pair; its exit code and its records by id."""

    runs = itertools.count()

    def run(likelihood, quality, *options):
        out = f"run-{next(runs)}"
        code = main(
            [
                *("nll", "--data", "images.npz", "--eta", "0.4", "--likelihood-expert", likelihood),
                *("--quality-expert", quality, "--rtol", str(TOLERANCE), "--atol", str(TOLERANCE)),
                *("--dtype", "float64", "--threads", "1", "--device", "cpu", "--out", out),
                *("--json", "--quiet", *options),
            ]
        )
        summary = json.loads(capsys.readouterr().out)
        bits = {} if code else {r.id: r.bits_per_dim for r in open_run(files / out).records()}
        return SimpleNamespace(code=code, summary=summary, bits=bits)

    return run


def agree(found, expected):
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[i] for i in found], [expected[i] for i in found], rtol=1e-6)


def test_classes_from_the_data_reach_the_network_with_their_images(nll):
    labelled = nll("vdm", "cond.pkl", "--labels", "from-data")
    assert labelled.code == 0
    for label in set(LABELS):
        by_hand = nll("by_hand.py:vdm", f"by_hand.py:class_{label}").bits
        ids = [i for i in range(N_IMAGES) if LABELS[i] == label]
        agree({i: labelled.bits[i] for i in ids}, {i: by_hand[i] for i in ids})
    alike = nll("vdm", "cond.pkl", "--labels", "5").bits
    assert all(abs(alike[i] - labelled.bits[i]) > 1e-4 for i in labelled.bits)


def test_one_class_for_all_is_the_call_from_python(nll, files):
    labelled = nll("vdm", "cond.pkl", "--labels", "3")
    agree(labelled.bits, nll("by_hand.py:vdm", "by_hand.py:class_3").bits)
    experts = [md.load_expert(files / name).double() for name in ("vdm", "cond.pkl")]
    model = md.MergedModel(*experts, md.Threshold.eta(0.4))
    images = md.load_data(files / "images.npz").images
    settings = {"rtol": TOLERANCE, "atol": TOLERANCE, "dtype": "float64"}
    direct = md.log_likelihood(model, images, labels=np.full(N_IMAGES, 3), **asked(**settings))
    agree(labelled.bits, dict(enumerate(direct.bits_per_dim)))


def test_converted_files_give_the_same_bits(nll, capsys):
    labelled = nll("vdm", "cond.pkl", "--labels", "from-data")
    for source, out in (("vdm", "converted-vdm"), ("cond.pkl", "converted-edm")):
        assert main(["experts", "convert", source, out]) == 0
    capsys.readouterr()
    assert nll("converted-vdm", "converted-edm", "--labels", "from-data").bits == labelled.bits


def test_without_labels_it_is_refused(nll):
    refused = nll("vdm", "cond.pkl")
    assert refused.code == refused.summary["code"] == 2
    assert "--labels" in refused.summary["error"]["hint"]
