"""Experts of the public networks at reduced size, with the numbers that the public code gave for them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merged_diffusion.experts.card import Card

REFERENCE = Path(__file__).parents[1] / "reference"
GAMMA_EDM, GAMMA_VDM = (-12.43, 8.764), (-13.3, 5.0)
# What a public configuration says beside the arguments of the network.
EDM_ROUND_IT = {"precond", "sigma_data", "sigma_min", "sigma_max", "use_fp16", "model_type"}
EDM_SHAPE = {"img_channels", "img_resolution"}
VDM_NETWORK = (
    "embedding_dim", "n_blocks", "n_attention_heads", "dropout_prob", "norm_groups", "attention_everywhere",
    "fourier_exponents",
)  # fmt: skip


def edm_card(network, size, channels=3):
    return Card(
        name="edm", kind="edm", predicts="x0", time="log_edm_sigma_over_4", input="edm", pixels="ends",
        levels=256, image_shape=(channels, size, size), gamma_range=GAMMA_EDM, data_std=0.5,
        network={"architecture": "ddpmpp"} | network,
    )  # fmt: skip


def vdm_card(network, size, channels=3):
    return Card(
        name="vdm", kind="vdm", predicts="eps", time="gamma", input="vp", pixels="centred", levels=256,
        image_shape=(channels, size, size), gamma_range=GAMMA_VDM,
        network={"architecture": "vdm-unet"} | network,
    )  # fmt: skip


class Public:
    """Cards, experts and vectors by folder below ``tests/reference``."""

    edm_card = staticmethod(edm_card)
    vdm_card = staticmethod(vdm_card)

    @staticmethod
    def folder(name):
        return REFERENCE / name

    @staticmethod
    def edm(name, prefix="", dtype=torch.float32):
        config = json.loads((REFERENCE / name / f"{prefix}config.json").read_text())
        network = {k: v for k, v in config.items() if k not in EDM_ROUND_IT | EDM_SHAPE}
        card = edm_card(network, config["img_resolution"])
        return loaded(replace(card, data_std=config["sigma_data"]), name, prefix, dtype)

    @staticmethod
    def vdm(name, prefix="", dtype=torch.float32):
        config = json.loads((REFERENCE / name / f"{prefix}config.json").read_text())
        network = {key: config[key] for key in VDM_NETWORK}
        network["time_range"] = [config["gamma_min"], config["gamma_max"]]
        return loaded(vdm_card(network, config["resolution"]), name, prefix, dtype)

    @staticmethod
    def vectors(name):
        with np.load(REFERENCE / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    @staticmethod
    def parameters(name):
        """Keys and shapes of a published file."""
        rows = [line.split("\t") for line in (REFERENCE / name / "parameters.tsv").read_text().splitlines()]
        return {key: tuple(json.loads(shape)) for key, shape in rows}


def loaded(card, name, prefix, dtype):
    expert = card.blank()
    tensors = load_file(REFERENCE / name / f"{prefix}weights.safetensors")
    expert.load_state_dict(tensors, strict=True, assign=True)
    return expert.to(dtype).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def public():
    return Public()
