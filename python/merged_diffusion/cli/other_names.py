"""What options and commands are called elsewhere: understood where it means the same, else told what ours is.

The names are those of EDM's ``generate.py`` and ``fid.py``, diffusers, lm-eval, and of habit. Underscores and
capitals of an option are ours with hyphens and small letters.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

import click

# Options that mean exactly what one of ours does, wherever a command has that one.
SAME: Final[Mapping[str, str]] = {
    "--batch": "--batch-size",
    "--dequantize": "--dequantise",
    "--output": "--out",
    "--outdir": "--out",
    "--out-dir": "--out",
    "--output-dir": "--out",
    "--output-path": "--out",
    "--dataset": "--data",
    "--class": "--labels",
    "--label": "--labels",
    "--num-inference-steps": "--steps",
    "--num-steps": "--steps",
    "--num-samples": "--num",
    "--num-images": "--num",
    "--cache-dir": "--cache",
    "--random-seed": "--seed",
    "--dryrun": "--dry-run",
    "--silent": "--quiet",
    "--jsonl": "--json-lines",
    "--num-threads": "--threads",
}
ONE_MODEL: Final = (
    "write --expert {value} for one network alone, or --quality-expert {value} with --likelihood-expert "
    "another for two merged; --pair NAME is two that are known by name (digits, photos, scenes, cifar10)"
)
IMAGES: Final = "write --limit {value} (a random choice of as many images) or --ids 0:{value} (the first)"
ENDS: Final = (
    "an expert's range of noise is its own (experts inspect shows it); write --edm-sigma {value} for the "
    "threshold between two"
)
ABLATION: Final = "leave it out: of EDM's samplers there is its best, --sampler heun"
PRECISION: Final = "write --precision bf16 or tf32 with nll, vlb, sample or sweep, --dtype float64 elsewhere"
REMARKS: Final = "leave it out: remarks and progress are shown unless --quiet is given"
RESUMES: Final = "leave it out: the same command with --out goes on where it stopped"
# Those that do not: what to write in their place, by command where it differs ("" for all others).
OTHERWISE: Final[Mapping[str, str | Mapping[str, str]]] = {
    "--network": ONE_MODEL,
    "--network-pkl": ONE_MODEL,
    "--model": ONE_MODEL,
    "--model-path": ONE_MODEL,
    "--model-args": "write --expert NAME for the model (a name, a file or file.py:name), and what else is in "
    "them as options of their own, such as --dtype and --batch-size",
    "--pretrained": ONE_MODEL,
    "--checkpoint": ONE_MODEL,
    "--ckpt": ONE_MODEL,
    "--weights": ONE_MODEL,
    "--seeds": {
        "sample": "write --ids {ids} (an id is an image; --seed N is of all random numbers)",
        "": "write --seed N (one, of all random numbers; every image has noise of its own under it)",
    },
    "--tasks": "write --data {value}: digits, photos, scenes, cifar10, imagenet32 or a path to images",
    "--input": "write --data {value}",
    "--images": {
        "fid": "write merged-diffusion fid {value} --ref REFERENCE",
        "fid-ref": "write merged-diffusion fid-ref {value} OUT.npz",
        "sample": "write --num {value}",
        "": "write --data {value}",
    },
    "--data": {
        "sample": "write --pair {value} or --expert NAME: samples are of experts, not of a set",
        "": "name the images without an option, as in data show {value}",
    },
    "--limit": {"sample": "write --num {value}", "": "leave it out: all are taken"},
    "--out": {
        "fid-ref": "write merged-diffusion fid-ref IMAGES {value}",
        "convert": "write merged-diffusion experts convert NAME {value}",
        "": "leave it out: nothing is kept",
    },
    "--steps": "write --tol NUMBER or --preset fast or tight: steps are chosen image by image; a number of "
    "them is an option of sample",
    "--num": IMAGES,
    "--n-samples": IMAGES,
    "--sigma": "write --edm-sigma {value}, the threshold as sigma/alpha",
    "--sigma-min": ENDS,
    "--sigma-max": ENDS,
    "--threshold": "write --eta {value} (0 to 1), or --gamma, --edm-sigma or --logsnr",
    "--snr": "write --logsnr with the logarithm of {value}",
    "--solver": {
        "sample": "write --sampler ode, ancestral, heun, dpmpp-2m, dpmpp-3m, unipc, deis or ipndm",
        "": "write --method adams or --method dopri5",
    },
    "--scheduler": {
        "sample": "write --sampler ode, ancestral, heun, dpmpp-2m, dpmpp-3m, unipc, deis or ipndm",
        "": "leave it out: an expert knows its own schedule",
    },
    "--rho": ABLATION,
    "--discretization": ABLATION,
    "--disc": ABLATION,
    "--schedule": ABLATION,
    "--scaling": ABLATION,
    "--subdirs": "leave it out: --out DIR is one folder, --out FILE.zip and FILE.npz are one file",
    "--guidance-scale": "write --guidance {value} --guide none-class (or another expert)",
    "--eval-batch-size": "write --batch-size {value}",
    "--log-samples": "leave it out: --out DIR keeps a record of each image, --json-lines prints them",
    "--verbose": REMARKS,
    "--verbosity": REMARKS,
    "--resume": RESUMES,
    "--continue": RESUMES,
    "--force": "write --overwrite with sample; a run in --out is gone on with and never overwritten",
    "--gpu": "write --device cuda, or cuda:N for the GPU number N",
    "--cuda": "write --device cuda, or cuda:N for the GPU number N",
    "--gpus": "write --device cuda with torchrun, or --shard I/N, a command for each GPU",
    "--cpu": "write --device cpu",
    "--fp16": PRECISION,
    "--bf16": PRECISION,
    "--tf32": PRECISION,
    "--precision": PRECISION,
    "--num-workers": "write --threads N in one process, or --shard I/N for worker I of N",
    "--workers": "write --threads N in one process, or --shard I/N for worker I of N",
    "--format": "write --json for one object, or --json-lines for a line an image",
    "--version": "write merged-diffusion --version",
    "-n": IMAGES,
    "-s": {
        "sample": "write --seed {value} (random numbers) or --sampler heun --steps {value}",
        "": "write --seed {value}",
    },
    "-v": REMARKS,
    "-j": "write --threads N in one process, or --shard I/N for worker I of N",
    "-m": ONE_MODEL,
    "-d": "write --data {value} for images, --device {value} for the machine",
}
# What can be written for an option that is missing, by the name of its parameter.
FOR_INSTANCE: Final[Mapping[str, str]] = {
    "data": "For instance --data photos; scenes and digits come along, too. A path to images does as well.",
    "images": "For instance samples.npz, as sample --out samples.npz writes it, or the name of a set.",
    "reference": "For instance --ref digits, a file of statistics, or a path to other images.",
}
COMMANDS: Final[Mapping[str, str]] = {
    "generate": "sample",
    "draw": "sample",
    "likelihood": "nll",
    "evaluate": "nll",
    "eval": "nll",
    "run": "nll",
    "score": "nll",
    "bpd": "nll",
    "elbo": "vlb",
    "bound": "vlb",
    "merge": "nll --likelihood-expert X --quality-expert Y",
    "download": "fetch",
    "show": "runs show DIR",
    "compare": "runs compare A B",
    "export": "runs export DIR",
    "report": "runs report DIR",
    "inspect": "experts inspect NAME",
    "convert": "experts convert NAME OUT",
    "list": "experts list",
    "verify": "data verify NAME",
    "help": "--help",
    "version": "--version",
    "test": "selftest",
}


def in_our_words(arguments: Sequence[str], ctx: click.Context) -> list[str]:
    """The arguments of a command with its own names of options.

    Raises
    ------
    UsageError
        An option is known from elsewhere, and means something else here.
    """
    takes_value = {
        name: not param.is_flag
        for param in ctx.command.get_params(ctx)
        if isinstance(param, click.Option)
        for name in param.opts
    }
    return list(_words(arguments, takes_value, ctx))


def _words(arguments: Sequence[str], takes_value: Mapping[str, bool], ctx: click.Context) -> Iterator[str]:
    words = iter(arguments)
    for word in words:
        if word == "--":
            yield word
            break
        given, equals, value = word.partition("=")
        name = _ours(given, takes_value) if given.startswith("--") else given
        if name not in takes_value and name in OTHERWISE:
            raise click.UsageError(_instead(given, name, value or next(words, ""), ctx), ctx)
        yield f"{name}{equals}{value}"
        if takes_value.get(name) and not equals:
            yield from itertools.islice(words, 1)
    yield from words


def _ours(given: str, known: Mapping[str, bool]) -> str:
    if given in known:
        return given
    name = given.lower().replace("_", "-")
    same = SAME.get(name, name)
    return same if same in known else name if name in known or name in OTHERWISE else given


def _instead(given: str, name: str, value: str, ctx: click.Context) -> str:
    """The sentence; a value that was not given is a word in its place."""
    found = OTHERWISE[name]
    command = ctx.info_name or ""
    text = found if isinstance(found, str) else found.get(command, found[""])
    shown = "X" if not value or value.startswith("-") else value
    return f"{given} is no option here: " + text.format(value=shown, ids=_ids(shown))


def _ids(seeds: str) -> str:
    """EDM's ``0-63`` as ``0:64``; one number is one image."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", seeds)
    return "A:B" if found is None else f"{found[1]}:{int(found[2] or found[1]) + 1}"


def our_command(name: str, rest: Sequence[str], known: Sequence[str], ctx: click.Context) -> str:
    """The name of a command, which ``rest`` comes after; with underscores or capitals it is the same.

    Raises
    ------
    UsageError
        There is none of that name; it tells what ours is called, or which is close.
    """
    ours = name.lower().replace("_", "-")
    if ours in known:
        return ours
    if ours == "help":
        within = [] if ctx.parent is None else [str(ctx.info_name)]
        about = [*within, *itertools.takewhile(lambda word: not word.startswith("-"), rest), "--help"]
        raise click.UsageError(f"no command {name!r}: write merged-diffusion {' '.join(about)}", ctx)
    if ours in COMMANDS and ctx.parent is None:
        raise click.UsageError(f"no command {name!r}: write merged-diffusion {COMMANDS[ours]}", ctx)
    close = " or ".join(map(repr, get_close_matches(ours, known)))
    raise click.UsageError(f"No such command {name!r}." + (f" Did you mean {close}?" if close else ""), ctx)
