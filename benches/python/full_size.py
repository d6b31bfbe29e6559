"""Do full-size public networks run from files of every public format, how fast do they load, in what memory?

    PYTHONPATH=python python benches/python/full_size.py FOLDER

FOLDER becomes a cache: EDM's CIFAR-10 network (55.7 M parameters) as a persistence pickle, the VDM (30.6 M)
as addtt's model.pt, Google's clu directory and i-DODE's, some also converted, all newly initialised as the
public code does; and a CIFAR-10 archive of the true layout with few images. Every file is loaded by a process
of its own, which states seconds and the peak of its memory above what the imports take. Files of equal
weights must hold the same bits and agree in one forward call, in which layers that begin at zero are drawn,
alike in all. Then ``nll --data cifar10`` runs once on the pair.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benches" / "python")]
from checkpoints import writers  # noqa: E402
from data.makers import cifar_binary, tar, write_tar_gz  # noqa: E402
from networks import EDM, VDM  # noqa: E402  the folder is on the path by now

SONG = {
    "precond": "EDMPrecond", "sigma_data": 0.5, "sigma_min": 0, "sigma_max": "inf", "use_fp16": False,
    "model_type": "SongUNet", "embedding_type": "positional", "encoder_type": "standard",
    "decoder_type": "standard",
    "channel_mult_noise": 1, "resample_filter": [1, 1], "img_channels": 3, "channel_mult_emb": 4,
    "label_dim": 0, "augment_dim": 9, "img_resolution": 32, "model_channels": 128, "channel_mult": [2, 2, 2],
    "num_blocks": 4, "attn_resolutions": [16], "dropout": 0.13,
}  # fmt: skip
TRAINED = {
    "embedding_dim": 128, "n_blocks": 32, "n_attention_heads": 1, "dropout_prob": 0.1, "norm_groups": 32,
    "use_fourier_features": True, "attention_everywhere": False, "gamma_min": -13.3, "gamma_max": 5.0,
    "input_channels": 3, "noise_schedule": "fixed_linear",
}  # fmt: skip
GOOGLE = {"fourier_exponents": [6, 7], "fourier_order": "channel", "norm_eps": 1e-6}
FILES = {
    "EDM pickle": "edm-cifar10-32x32-uncond-vp.pkl",
    "addtt": "addtt-vdm-cifar10/model.pt",
    "flax": "google-vdm-cifar10/ckpt-7.flax",
    "i-DODE": "i-dode-cifar10/ckpt-7.flax",
    "EDM converted": "converted-edm/model.safetensors",
    "flax converted": "converted-google/model.safetensors",
}
SAME = [("EDM pickle", "EDM converted"), ("flax", "flax converted"), ("flax", "i-DODE")]
GAMMAS = (-8.0, 1.0)
SEEN = 512  # numbers of a forward call that are compared
MIB = 1 << 20


def make(folder):
    """The files, where they are not there yet."""
    experts = folder / "experts"
    experts.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    write_tar_gz(folder / "data" / "cifar-10-binary.tar.gz", tar(cifar_binary(4)))
    if not (experts / FILES["EDM pickle"]).exists():
        writers.write_edm(experts / FILES["EDM pickle"], SONG, EDM.expert().state_dict())
    if not (experts / FILES["addtt"]).exists():
        writers.write_addtt(experts / "addtt-vdm-cifar10", TRAINED, VDM.expert().state_dict())
    google = replace(VDM, network=VDM.network | GOOGLE).expert().state_dict()
    for name in ("google-vdm-cifar10", "i-dode-cifar10"):
        if not (experts / name).exists():
            writers.write_flax(experts / name, google)
    for source, out in ((FILES["EDM pickle"], "converted-edm"), ("google-vdm-cifar10", "converted-google")):
        if not (experts / out).exists():
            run("experts", "convert", experts / source, experts / out)


def run(*arguments):
    """A command of merged-diffusion in a process of its own."""
    command = [sys.executable, "-m", "merged_diffusion", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def resident(field):
    """Bytes of resident memory of this process: "VmRSS" now, "VmHWM" at most (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def load(path):
    """Print what loading one file takes, what its weights are, and numbers of one forward call."""
    from merged_diffusion.experts.cards import load_expert

    before, begin, busy = resident("VmRSS"), time.perf_counter(), time.process_time()
    expert = load_expert(path)
    found = {
        "seconds": time.perf_counter() - begin,
        "cpu": time.process_time() - busy,
        "used": resident("VmHWM") - before,
        "parameters": sum(p.numel() for p in expert.parameters()),
        "weights": digest(expert.state_dict()),
        "predicts": getattr(expert, "predicts", "x0"),
    }
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 3, 32, 32, generator=generator)
    for _, parameter in sorted(expert.named_parameters()):
        if not parameter.any():
            parameter.normal_(std=0.02, generator=generator)
    with torch.no_grad():
        eps_hat = expert(z, torch.tensor(GAMMAS, dtype=torch.float64)).double()
    print(json.dumps(found | {"z": seen(z), "eps_hat": seen(eps_hat)}))


def digest(state):
    """SHA-256 of the tensors, by name."""
    total = hashlib.sha256()
    for key, value in sorted(state.items()):
        total.update(key.encode() + value.contiguous().numpy().tobytes())
    return total.hexdigest()


def seen(images):
    return images.flatten(1)[:, :SEEN].tolist()


def as_velocity(found):
    """eps_hat = alpha F + sigma z of the network F that eps_hat is of, where the other is F itself."""
    gamma = torch.tensor(GAMMAS, dtype=torch.float64)[:, None]
    z, out = (torch.tensor(found[key], dtype=torch.float64) for key in ("z", "eps_hat"))
    return torch.sigmoid(-gamma).sqrt() * out + torch.sigmoid(gamma).sqrt() * z


def loaded(folder):
    """A line per file; equal weights must give equal outputs."""
    files = {}
    for name, file in FILES.items():
        path = folder / "experts" / file
        source = path.parent if path.suffix == ".safetensors" else path
        words = [sys.executable, __file__, str(folder), "--load", str(source)]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
        size = path.stat().st_size
        files[name] = found
        print(
            f"{name:<15} {found['parameters'] / 1e6:5.1f} M parameters, {size / 1e6:6.1f} MB: loaded in "
            f"{found['seconds']:.2f} s ({found['cpu']:.2f} s of processor), {found['used'] / size:.2f} times "
            "its size of memory",
            flush=True,
        )
    for one, two in SAME:
        first, second = files[one], files[two]
        assert first["weights"] == second["weights"], f"{one} and {two} hold other weights"
        if second["predicts"] == "velocity":
            found = torch.tensor(second["eps_hat"], dtype=torch.float64)
            torch.testing.assert_close(as_velocity(first), found, rtol=0, atol=1e-5)  # float32
        else:
            assert first["eps_hat"] == second["eps_hat"], f"{one} and {two} differ"
    print(f"same bits, and the same outputs: {', '.join(' = '.join(pair) for pair in SAME)}")


def evaluated(folder, threads):
    """The issue of the whole: the pair's likelihood of two images."""
    begin = time.perf_counter()
    words = [sys.executable, "-m", "merged_diffusion", "nll", "--data", "cifar10", "--eta", "0.4"]
    words += ["--limit", "2", "--rtol", "1e-2", "--batch-size", "2", "--threads", str(threads)]
    words += ["--cache", str(folder), "--out", str(folder / "run"), "--quiet", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        found = json.loads(process.stdout.read())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    assert process.returncode == 0, found
    mean, calls = found["bits_per_dim"]["mean"], found["evaluations"]
    print(
        f"nll: {mean:.3f} bits/dim, {calls['likelihood']:.0f} evaluations of the VDM, {calls['quality']:.0f} "
        f"of the EDM an image; {seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor: "
        f"{found['seconds'] / calls['total']:.2f} s a call of 2 rows with VJP; at most "
        f"{used.ru_maxrss * 1024 / MIB:.0f} MiB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--load", type=Path, help="load one file and say what it took, as JSON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-nll", action="store_true", help="only load")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.load:
        load(given.load)
        return
    os.environ["GOMP_SPINCOUNT"] = (
        "0"  # as merged-diffusion sets it: threads that wait take no time from others
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    make(given.folder)
    print(f"torch {torch.__version__}, {given.threads} threads")
    loaded(given.folder)
    if not given.without_nll:
        evaluated(given.folder, given.threads)


if __name__ == "__main__":
    main()
