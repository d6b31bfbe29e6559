"""What a shell offers while a command is typed: commands, options, and values; without torch, and quickly."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = "import sys; from merged_diffusion.cli import main; main([]); print(*sys.modules, file=sys.stderr)"
SETS = ("digits", "photos", "scenes", "cifar10", "imagenet32")
PUBLIC = "edm-cifar10-32x32-uncond-vp"


def asked(instruction: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOADED],
        env=os.environ | {"_MERGED_DIFFUSION_COMPLETE": instruction} | variables,
        capture_output=True, text=True, check=True, cwd=cwd,
    )  # fmt: skip


def offered(*words: str, cwd: Path | None = None) -> list[str]:
    """What bash is told of the last word; words as bash cuts them."""
    line = "\n".join(("merged-diffusion", *words))
    done = asked("bash_complete", cwd, COMP_WORDS=line, COMP_CWORD=str(len(words)))
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("thr",), ["plain,threshold"]),
        (("runs", "sh"), ["plain,show"]),
        (("nll", "--likel"), ["plain,--likelihood-expert"]),
        (("nll", "--data", "d"), ["file,d", "plain,digits"]),
        (("nll", "--data", ""), ["file,", *(f"plain,{name}" for name in SETS)]),
        (("sample", "--pair", "p"), ["plain,photos"]),
        (("nll", "--pair", "=", "p"), ["plain,photos"]),
        (("nll", "--pair", "="), ["plain,digits", "plain,photos", "plain,scenes", "plain,cifar10"]),
        (("nll", "--expert", "bundled:digits-v"), ["file,bundled:digits-v", "plain,bundled:digits-vdm"]),
        (("nll", "--expert", "bundled", ":", "digits-v"), ["file,digits-v", "plain,digits-vdm"]),
        (
            ("nll", "--quality-expert", "edm-cifar10-32x32-u"),
            [f"file,{PUBLIC[:19]}", f"plain,{PUBLIC}", f"plain,{PUBLIC[:-2]}ve"],
        ),
        (("nll", "--preset", "t"), ["plain,tight"]),
        (("nll", "--eta", "m"), ["plain,min", "plain,max"]),
        (("sample", "--sampler", "u"), ["plain,unipc"]),
        (("sample", "--sigmas", "e"), ["file,e", "plain,edm"]),
        (("fid", "x.npz", "--ref", "imagenet32-o"), ["file,imagenet32-o", "plain,imagenet32-old"]),
        (("data", "show", "ph"), ["file,ph", "plain,photos"]),
        (("fetch", "incep"), ["plain,inception-2015-12-05"]),
    ],
)  # fmt: skip
def test_names_are_offered(words, wanted):
    assert offered(*words) == wanted


def test_paths_stand_first_for_bash_forgets_what_stood_before_them():
    """Of ``file`` its script makes COMPREPLY empty."""
    kinds = [line.partition(",")[0] for line in offered("nll", "--data", "")]
    assert kinds == sorted(kinds, key=lambda kind: kind == "plain")


def test_runs_are_offered_and_other_directories_are_not(tmp_path):
    for name in ("results/one", "results/two", "results/not_a_run", "three"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("results/one/settings.json", "results/two/sweep.json", "three/settings.json"):
        (tmp_path / name).touch()
    for command in (("show",), ("compare", "x"), ("report", "x", "y")):
        found = offered("runs", *command, "results/", cwd=tmp_path)
        assert found == ["dir,results/", "plain,results/one", "plain,results/two"]
    assert offered("runs", "show", "", cwd=tmp_path) == ["dir,", "plain,three"]
    assert offered("runs", "show", "./t", cwd=tmp_path) == ["dir,./t", "plain,./three"]
    assert offered("runs", "show", "nowhere/", cwd=tmp_path) == ["dir,nowhere/"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_every_shell_has_a_script_and_is_answered(shell):
    assert "_MERGED_DIFFUSION_COMPLETE" in asked(f"{shell}_source").stdout
    typed = "merged-diffusion nll --pair ph"
    cword = {"zsh": "3", "fish": "ph"}[shell]
    answer = asked(f"{shell}_complete", COMP_WORDS=typed, COMP_CWORD=cword).stdout
    assert answer.replace(",", " ").split()[:2] == ["plain", "photos"]


@pytest.mark.parametrize("words", [("nll", "--data", "d"), ("nll", "--expert", "b"), ("runs", "show", "")])
def test_nothing_heavy_is_loaded_and_it_is_quick(words):
    seconds = []
    for _ in range(3):
        begun = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = asked(
            "bash_complete", COMP_WORDS="\n".join(("merged-diffusion", *words)), COMP_CWORD=str(len(words))
        )
        seconds.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begun)
        assert not {"torch", "numpy", "scipy", "matplotlib"} & set(done.stderr.split())
    assert min(seconds) < 0.5  # 0.2 alone on a slow machine


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_takes_the_script_and_completes(tmp_path):
    program = tmp_path / "merged-diffusion"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m merged_diffusion "$@"\n')
    program.chmod(0o755)
    script = f"""
        PATH={tmp_path}:$PATH
        eval "$(_MERGED_DIFFUSION_COMPLETE=bash_source merged-diffusion)"
        COMP_WORDS=(merged-diffusion nll --expert bundled : photos-e); COMP_CWORD=5
        compopt() {{ :; }}
        _merged_diffusion_completion merged-diffusion
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "photos-edm"
