"""A place that a user gives: what lies in it stays, no link leads out of it, and what is lost is told."""

import errno
import json
import os
from pathlib import Path

import pytest

FEW = ("--tune-limit", 24, "--limit", 16, "--no-confirm", "--no-test")


def content(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.fixture
def commands(pair, sweep, experts):
    """A small command of each kind that is given a directory."""
    return {
        "nll": pair("--limit", 2, "--eta", 0.3),
        "compare": pair("--limit", 2, "--eta", 0.3, "--compare"),
        "vlb": ("vlb", *pair("--limit", 2, "--eta", 0.3)[1:], "--times", 2),
        "sweep": sweep("--limit", 2, "--etas", "0.2,0.3"),
        "sample": ("sample", "--expert", experts("one"), "--num", 2, "--sampler", "heun", "--steps", 2),
        "threshold": ("threshold", *pair(*FEW)[1:]),
    }


NAMES = ("nll", "compare", "vlb", "sweep", "sample", "threshold")


@pytest.mark.parametrize("name", NAMES)
def test_a_directory_with_hidden_files_of_others_is_refused_and_left_as_it_is(
    run_cli, commands, tmp_path, name
):
    out = tmp_path / "mine"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (out / ".env").write_text("TOKEN=1")
    before = content(tmp_path / "mine")
    result = run_cli(*commands[name], "--out", "mine")
    assert result.code == 7, result.err
    assert content(out) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_link_out_of_its_directory_is_refused_by_every_command(run_cli, commands, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path / "elsewhere")
    result = run_cli(*commands[name], "--out", "root/out")
    assert result.code == 6, result.err
    assert "link" in result.err
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["nll", "sweep"])
def test_hidden_files_stay_where_an_expert_fails_before_the_first_record(run_cli, experts, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".env").write_text("TOKEN=1")
    one = ("--data", "digits", "--limit", 2, "--out", "mine")
    both = ("--likelihood-expert", experts("raising"), "--quality-expert", experts("quality"))
    command = ("nll", *one, "--expert", experts("raising")) if name == "nll" else ("sweep", *one, *both)
    assert run_cli(*command).code in (4, 7)
    assert content(tmp_path / "mine") == {".env": b"TOKEN=1"}


def test_rows_of_a_sweep_of_samples_are_no_links(run_cli, sweep, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "swept").mkdir()
    options = (
        "--metric",
        "sample",
        "--sampler",
        "heun",
        "--steps",
        2,
        "--num",
        4,
        "--etas",
        "0.2",
        "--out",
        "swept",
    )
    assert run_cli(*sweep(*options)).code == 0
    for path in (tmp_path / "swept" / "eta-0.2000").iterdir():
        path.unlink()
    (tmp_path / "swept" / "eta-0.2000").rmdir()
    (tmp_path / "swept" / "eta-0.2000").symlink_to(tmp_path / "elsewhere")
    assert run_cli(*sweep(*options)).code == 6
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["nll", "compare", "vlb", "sweep"])
def test_a_run_that_loses_its_journal_ends_with_9_and_goes_on_by_the_same_command(
    run_cli, commands, tmp_path, monkeypatch, name
):
    from merged_diffusion.runs.journal import Journal

    assert run_cli(*commands[name], "--out", "whole").code == 0
    real = Journal.append

    def append(journal, record):
        real(journal, record)
        journal.path.unlink(missing_ok=True)

    monkeypatch.setattr(Journal, "append", append)
    lost = run_cli(*commands[name], "--out", "out", "--json")
    assert lost.code == lost.json["code"] == 9
    assert "lost" in lost.json["error"]["message"]
    monkeypatch.setattr(Journal, "append", real)
    again = run_cli(*commands[name], "--out", "out")
    assert again.code == 0, again.err
    ids = {
        str(p): [json.loads(line)["id"] for line in p.read_text().splitlines()]
        for p in Path("whole").rglob("*.jsonl")
    }
    for path, held in ids.items():
        lines = Path(path.replace("whole", "out", 1)).read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == held


def test_images_that_are_lost_while_they_are_drawn_are_code_9(run_cli, commands, tmp_path, monkeypatch):
    from merged_diffusion.sampling.store import Store

    real = Store.append

    def append(store, samples):
        real(store, samples)
        for path in Path("out.npz.part").glob("*.npz"):
            path.unlink()

    monkeypatch.setattr(Store, "append", append)
    lost = run_cli(*commands["sample"], "--out", "out.npz", "--json")
    assert lost.code == lost.json["code"] == 9
    monkeypatch.setattr(Store, "append", real)
    assert run_cli(*commands["sample"], "--out", "out.npz").code == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fails_is_code_6_and_the_same_command_goes_on(
    run_cli, commands, tmp_path, monkeypatch, name, number
):
    def rename(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        failed = run_cli(*commands[name], "--out", "out", "--json")
        assert failed.code == failed.json["code"] == 6
    assert run_cli(*commands[name], "--out", "out").code == 0
