"""The networks of public files against the public code: outputs, denoisers, scores and their gradients."""

import math

import numpy as np
import pytest
import torch
from tests.checkpoints.public_files import SAID, checkpoint, config, vectors

import merged_diffusion as md
from merged_diffusion.schedules import alpha, per_image

NAMES = [name for name in SAID if name.split("/")[0] in ("edm-nets", "openai", "torchcfm", "score-sde")]
# Of the READMEs, in float32: of outputs, relative to the largest; of gradients likewise.
OUTPUTS = {"edm-nets": 2e-5, "openai": 2e-5, "torchcfm": 1e-5, "score-sde": 2e-5}
GRADIENTS = {"edm-nets": 2e-5, "openai": 1e-4, "torchcfm": 1e-4, "score-sde": 1e-4}
LOOSER = {"edm-nets/vp": 2e-4, "score-sde/ncsnpp-ve": 2e-4}
DOUBLE = 1e-9


class Public:
    """A network under the call of its repository."""

    def __init__(self, name, folder, dtype):
        self.name, self.family = name, name.split("/")[0]
        self.d = vectors(f"{name}/network")
        self.expert = md.load_expert(checkpoint(name, folder), read_as=SAID[name]).to(dtype)
        self.dtype = dtype
        self.labels = torch.from_numpy(self.d["class_ids"]).long() if self.expert.conditional else None
        self.levels = {"edm-nets": "sigmas", "openai": "t", "torchcfm": "t", "score-sde": "labels"}[
            self.family
        ]
        self.out = {"edm-nets": "D", "torchcfm": "u"}.get(self.family, "out")

    def __call__(self, x, level, labels=None):
        """The output at ``level`` [B], float64."""
        cond = () if labels is None else (labels,)
        if self.family == "edm-nets":
            gamma = 2 * level.log()
            eps_hat = self.expert(x * per_image(alpha(gamma), x), gamma, *cond)
            return x - per_image(level, x) * eps_hat
        if self.name == "score-sde/ncsnpp-ve":
            return self.expert.model(2 * x - 1, level.log()) / per_image(level, x)
        return self.expert.model(x, level, *cond)

    def tensor(self, key):
        return torch.from_numpy(self.d[key]).to(self.dtype)

    def level(self, value):
        return torch.full((2,), float(value), dtype=torch.float64)

    def close(self, found, key, tolerance, scale=1.0):
        expected = self.d[f"{key}_conv" if self.dtype == torch.float64 else key]
        atol = DOUBLE if self.dtype == torch.float64 else LOOSER.get(self.name, tolerance)
        scale = max(scale, float(np.abs(expected).max()))
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=atol * scale, err_msg=key)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["double", "single"])
def dtype(request):
    return request.param


@pytest.fixture(params=NAMES)
def public(request, dtype, tmp_path):
    return Public(request.param, tmp_path, dtype)


def test_outputs_are_those_of_the_public_code(public):
    tolerance = OUTPUTS[public.family]
    with torch.no_grad():
        found = [
            public(x, public.level(at), public.labels)
            for x, at in zip(public.tensor("x"), public.d[public.levels], strict=True)
        ]
        public.close(torch.stack(found), public.out, tolerance)
        vec = torch.from_numpy(public.d[f"{public.levels}_vec"]).double()
        public.close(public(public.tensor("x_vec"), vec, public.labels), f"{public.out}_vec", tolerance)


def test_gradients_are_those_of_the_public_code(public):
    found = []
    for row in public.d["vjp_at"]:
        x = public.tensor("x")[row].requires_grad_(True)
        out = public(x, public.level(public.d[public.levels][row]), public.labels)
        found += torch.autograd.grad((out * public.tensor("vjp_v")).sum(), x)
    public.close(torch.stack(found), "vjp", GRADIENTS[public.family])


@pytest.mark.parametrize("public", [n for n in NAMES if n.startswith("edm-nets")], indirect=True)
def test_bare_networks_of_edm_and_images_without_a_class(public):
    with torch.no_grad():
        noise = torch.from_numpy(public.d["F_noise_label"]).double()
        labels = () if public.labels is None else (public.labels,)
        public.close(public.expert.model(public.tensor("F_in"), noise, *labels), "F_out", 2e-5)
        if public.labels is not None:
            none = torch.full((2,), -1)
            found = public(public.tensor("x")[2], public.level(public.d["sigmas"][2]), none)
            public.close(found, "D_null", 2e-5)


@pytest.mark.parametrize("public", ["edm-nets/ncsnpp"], indirect=True)
def test_augmentations_of_edm_are_told_to_the_network(public):
    x, s, std = public.tensor("x")[2], float(public.d["sigmas"][2]), config(public.name)["sigma_data"]
    root = math.hypot(s, std)
    with torch.no_grad():
        augment = public.tensor("augment_labels")
        raw = public.expert.model(x / root, public.level(math.log(s) / 4), None, augment)
    public.close(x * std**2 / root**2 + raw * s * std / root, "D_aug", 2e-5)


@pytest.mark.parametrize("public", [n for n in NAMES if n.startswith("score-sde")], indirect=True)
def test_scores_are_those_of_score_sde(public):
    row = int(public.d["score_at"])
    with torch.no_grad():
        out = public(public.tensor("x")[row], public.level(public.d["labels"][row]))
    is_score = public.name.endswith("-ve")
    public.close(out if is_score else -out / float(public.d["std"][row]), "score", 2e-5)
