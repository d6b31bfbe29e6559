"""Files in the public formats, written as the public code writes them, from a config and a state dict."""

import collections
import pickle
import sys
import types
from contextlib import contextmanager

import msgpack
import numpy as np
import torch
import yaml
from torch import nn

SOURCE = "# the module's own text: nobody runs it\n" * 50


# ---- EDM: persistence pickles


@contextmanager
def edm_modules(old_numpy=False):
    """Modules that the pickler looks names up in: EDM's own, and numpy's before version 2."""
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = reconstruct
    added = {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": module}
    if old_numpy:
        old = types.ModuleType("numpy.core.multiarray")
        old.scalar = old_scalar
        added["numpy.core.multiarray"] = old
    kept = {name: sys.modules.get(name) for name in added}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = value


def reconstruct(meta):
    raise AssertionError("a persistent object was made")


reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"


def old_scalar(dtype, content):
    raise AssertionError("a scalar was made")


old_scalar.__module__, old_scalar.__qualname__ = "numpy.core.multiarray", "scalar"


class OldScalar:
    """A float as numpy before version 2 pickles it."""

    def __reduce__(self):
        return old_scalar, (np.dtype("f8"), np.float64(np.sqrt(0.5)).tobytes())


class Persistent(nn.Module):
    """An object of a class of EDM's, as its decorator pickles it."""

    def __init__(self, kind, ordered=False, **kwargs):
        super().__init__()
        self._kind, self._ordered = kind, ordered
        self._init_args, self._init_kwargs = (), kwargs
        for key, value in kwargs.items():
            setattr(self, key, value)

    def __reduce__(self):
        state = {key: value for key, value in self.__dict__.items() if key not in ("_kind", "_ordered")}
        if self._ordered:
            for key in ("_parameters", "_buffers", "_modules"):
                state[key] = collections.OrderedDict(state[key])
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self._kind, "state": state}
        return reconstruct, (meta,), None


def edm_object(config, tensors, *, ordered=False, scalar=None):
    """The EMA network of a snapshot."""
    scalar = np.sqrt(0.5) if scalar is None else scalar
    outer = (
        "img_resolution",
        "img_channels",
        "label_dim",
        "use_fp16",
        "sigma_min",
        "sigma_max",
        "sigma_data",
    )
    inner = {k: v for k, v in config.items() if k not in (*outer, "precond", "model_type")}
    size, channels, label_dim = config["img_resolution"], config["img_channels"], config["label_dim"]
    arguments = {
        "img_resolution": size,
        "in_channels": channels,
        "out_channels": channels,
        "label_dim": label_dim,
    }
    top = Persistent("EDMPrecond", ordered, **{key: config[key] for key in outer})
    top.sigma_max = float("inf")
    for key, value in tensors.items():
        at = top
        *path, leaf = key.split(".")
        for depth, part in enumerate(path):
            if part not in at._modules:
                made = nn.ModuleDict() if part in ("enc", "dec") else None
                if made is None and depth == 0:
                    made = Persistent(config.get("model_type", "SongUNet"), ordered, **arguments | inner)
                at.__dict__.pop(part, None)
                block = Persistent("UNetBlock", ordered, skip_scale=scalar, skip=None)
                at._modules[part] = block if made is None else made
            at = at._modules[part]
        if leaf == "resample_filter":
            at._buffers[leaf] = value
        else:
            at.__dict__.pop(leaf, None)
            at._parameters[leaf] = nn.Parameter(value)
    return top


def write_edm(path, config, tensors, *, protocol=4, ordered=False, old_numpy=False, **extra):
    """A ``network-snapshot-*.pkl``."""
    ema = edm_object(config, tensors, ordered=ordered, scalar=OldScalar() if old_numpy else None)
    loss = Persistent("EDMLoss", ordered, P_mean=-1.2, P_std=1.2, sigma_data=0.5)
    top = {"ema": ema, "loss_fn": loss, "augment_pipe": None, "dataset_kwargs": {"path": "x.zip"}} | extra
    with edm_modules(old_numpy), path.open("wb") as stream:
        pickle.dump(top, stream, protocol=protocol)
    return path


# ---- addtt: torch's zip


def addtt_state(config, tensors, *, new_ema=False, initted=True, schedule=None):
    """What ``train.py`` saves. ``tensors`` are the EMA's; the online ones differ."""
    ema = {"initted": torch.tensor(initted) if new_ema else torch.tensor([float(initted)])}
    ema["step"] = torch.tensor(7) if new_ema else torch.tensor([7])
    if not new_ema:
        ema |= {f"online_model.{key}": value + 1 for key, value in tensors.items()}
    ema |= {f"ema_model.{key}": value for key, value in tensors.items()}
    if schedule is not None:
        ema |= {
            f"ema_model.gamma.{key}": torch.tensor(value) for key, value in zip("bw", schedule, strict=True)
        }
    online = {key: value + 1 for key, value in tensors.items()}
    opt = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.99)}]}
    return {"step": 7, "model": state_dict(online), "opt": opt, "ema": state_dict(ema)}


def state_dict(tensors):
    """What ``Module.state_dict()`` returns: with the versions of the modules as an attribute."""
    result = collections.OrderedDict(tensors)
    paths = {""} | {key.rpartition(".")[0] for key in tensors}
    result._metadata = collections.OrderedDict((path, {"version": 1}) for path in sorted(paths))
    return result


TRAINING = {
    "batch_size": 128,
    "lr": 2e-4,
    "weight_decay": 0.01,
    "clip_grad": True,
    "antithetic_time_sampling": True,
}


def write_addtt(folder, config, tensors, **options):
    """``model.pt`` and ``config.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = {k: v for k, v in config.items() if k not in ("resolution", "vocab_size", "fourier_exponents")}
    stated["embedding_dim"] = float(stated["embedding_dim"])
    if options.get("schedule") is not None:
        stated["noise_schedule"] = "learned_linear"
    (folder / "config.yaml").write_text(yaml.safe_dump(TRAINING | stated))
    torch.save(addtt_state(config, tensors, **options), folder / "model.pt")
    return folder / "model.pt"


# ---- flax: msgpack


def packed(value):
    """Bytes as ``flax.serialization.to_bytes`` makes them."""

    def extension(item):
        if isinstance(item, np.ndarray):
            return msgpack.ExtType(1, msgpack.packb((item.shape, item.dtype.name, item.tobytes())))
        if isinstance(item, np.generic):
            return msgpack.ExtType(3, msgpack.packb(((), item.dtype.name, item.tobytes())))
        raise TypeError(type(item))

    return msgpack.packb(value, default=extension, strict_types=True)


RESNET = {"net1.0": "GroupNorm_0", "net1.2": "conv1", "net2.0": "GroupNorm_1", "net2.3": "conv2"}
RESNET |= {"cond_proj": "cond_proj", "skip_conv": "nin_shortcut"}
TOP = {"embed_conditioning.0": "dense0", "embed_conditioning.2": "dense1", "conv_in": "conv_in"}
TOP |= {"conv_out.0": "GroupNorm_0", "conv_out.2": "conv_out"}


def flax_network(tensors):
    """Parameters of Google's network from a state dict of ours, whose features stand channel by channel."""
    network = {}
    for key, tensor in tensors.items():
        name, kind = key.removeprefix("model.").rsplit(".", 1)
        value = tensor.numpy()
        if name in TOP:
            put(network, TOP[name], name, kind, value, conditioning=name == "embed_conditioning.0")
            continue
        block, _, layer = name.partition(".resnet_block.")
        if block.startswith("mid_resnet_block_"):
            block, _, layer = name.partition(".")
            where = "mid.block_" + block[-1]
        elif ".attention_block." in name or name.startswith("mid_attn"):
            attention(network, name, kind, value)
            continue
        else:
            part, index = block.split(".")
            where = f"{part.removesuffix('_blocks')}.block_{index}"
        put(network.setdefault(where, {}), RESNET[layer], layer, kind, value)
    return network


def put(network, name, ours, kind, value, conditioning=False):
    layer = network.setdefault(name, {})
    if kind == "bias":
        layer["bias"] = value
    elif value.ndim == 1:
        layer["scale"] = value
    elif value.ndim == 4:
        kernel = value.transpose(2, 3, 1, 0)
        layer["kernel"] = np.ascontiguousarray(kernel[0, 0] if ours == "skip_conv" else kernel)
    else:
        kernel = value.T
        if conditioning:  # a row for an input that is always zero
            kernel = np.concatenate([kernel, np.full_like(kernel[:1], 7.0)])
        layer["kernel"] = np.ascontiguousarray(kernel)


def attention(network, name, kind, value):
    part = name.split(".")
    index = part[-1]
    where = "mid.attn_1" if name.startswith("mid") else f"{part[0].removesuffix('_blocks')}.attn_{part[1]}"
    layers = network.setdefault(where, {})
    if index == "0":
        layers.setdefault("GroupNorm_0", {})["scale" if kind == "weight" else "bias"] = value
    elif index == "1":
        for key, third in zip("qkv", np.split(value, 3), strict=True):
            entry = layers.setdefault(key, {})
            entry["kernel" if kind == "weight" else "bias"] = np.ascontiguousarray(
                third[:, :, 0, 0].T if kind == "weight" else third
            )
    else:
        entry = layers.setdefault("proj_out", {})
        entry["kernel" if kind == "weight" else "bias"] = np.ascontiguousarray(
            value[:, :, 0, 0].T if kind == "weight" else value
        )


def flax_state(tensors, gamma=(-13.2, 18.5)):
    """What ``to_bytes`` gets: the raw parameters differ from the EMA's."""
    ema = {"score_model": flax_network(tensors)}
    if gamma is not None:
        ema["gamma"] = {"b": np.array([gamma[0]], np.float32), "w": np.array([-gamma[1]], np.float32)}
    raw = {"score_model": {"dense0": {"kernel": np.zeros((2, 2), np.float32)}}}
    return {"step": np.int64(5), "params": raw, "ema_params": ema, "opt_state": {"0": {"count": np.int32(1)}}}


def write_flax(folder, tensors, gamma=(-13.2, 18.5), number=7):
    """A ``clu`` checkpoint's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "ckpt-{number}"\nall_model_checkpoint_paths: "x"\n'
    )
    (folder / f"ckpt-{number}.flax").write_bytes(packed(flax_state(tensors, gamma)))
    return folder
