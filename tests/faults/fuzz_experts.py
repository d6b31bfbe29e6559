"""Readers of checkpoints under mutations: they load or refuse, quickly and within memory.

MERGED_DIFFUSION_FUZZ_SECONDS=600 python -m pytest -s -m slow tests/faults/fuzz_experts.py
"""

import pickle

import pytest
import yaml
from safetensors.torch import save
from tests.checkpoints import writers
from tests.faults.fuzz import survive
from tests.faults.pickles import dumped
from tests.faults.states import CARD, edm_reference, vdm_reference
from tests.faults.torch_zips import honest_zip, zipped

from merged_diffusion.experts.cards import load_expert

pytestmark = pytest.mark.slow


def snapshots():
    """A snapshot of every protocol."""
    config, tensors = edm_reference()
    return [dumped({"ema": writers.edm_object(config, tensors)}, protocol) for protocol in (2, 4, 5)]


def small_pickles():
    """Pickles of a few hundred bytes, so that a mutation meets an opcode and not a weight."""
    reduced = {"type": "class", "version": 6, "module_src": "", "class_name": "EDMPrecond", "state": {}}
    values = [{"ema": {"a": [1, (2.5, None)], "b": b"x" * 9}, "set": {1, 2}}, [reduced, reduced], "text"]
    return [pickle.dumps(value, protocol) for value in values for protocol in (2, 4)]


SEEDS = {
    "snapshot": ("network.pkl", snapshots),
    "pickle": ("network.pkl", small_pickles),
    "torch": ("model.pt", lambda: [zipped(honest_zip()), zipped(honest_zip(new_ema=True))]),
    "torch-pickle": (
        "model.pt",
        lambda: [v for k, v in honest_zip().items() if "pkl" in k],
    ),
    "msgpack": ("ckpt-1.flax", lambda: [writers.packed(writers.flax_state(vdm_reference()[1]))]),
    "safetensors": ("model.safetensors", lambda: [save(vdm_reference()[1])]),
    "card": ("card.toml", lambda: [CARD.encode()]),
    "yaml": ("config.yaml", lambda: [yaml.safe_dump(writers.TRAINING | stated()).encode()]),
}


def stated():
    """What config.yaml says of the network."""
    left_out = ("resolution", "vocab_size", "fourier_exponents")
    return {key: value for key, value in vdm_reference()[0].items() if key not in left_out}


@pytest.mark.parametrize("name", SEEDS)
def test_reader_survives(name, tmp_path):
    file, seeds = SEEDS[name]
    whole = honest_zip()
    root = next(iter(whole)).split("/")[0]
    (tmp_path / "card.toml").write_text(CARD)
    (tmp_path / "model.safetensors").write_bytes(save(vdm_reference()[1]))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stated()))
    if file not in ("card.toml", "model.safetensors"):
        (tmp_path / "card.toml").unlink()
    if name == "yaml":
        (tmp_path / "model.pt").write_bytes(zipped(whole))

    def read(content):
        path = tmp_path / file
        if name == "torch-pickle":
            content = zipped(whole | {f"{root}/data.pkl": content})
        path.write_bytes(content)
        load_expert({"card.toml": tmp_path, "config.yaml": tmp_path / "model.pt"}.get(file, path))

    survive(name, seeds(), read)
