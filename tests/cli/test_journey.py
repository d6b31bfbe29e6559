"""An image's way from the command line to its record: few hands, and nothing done twice (docs/design.md)."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import merged_diffusion as md
from merged_diffusion.data.images import Data
from merged_diffusion.experts import checks
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.ode.methods import Adams, Dopri5
from merged_diffusion.runs import journal as journals
from merged_diffusion.runs import known_records

PACKAGE = str(Path(md.__file__).parent)


def frames_of_the_package():
    frame, count = sys._getframe(1), 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith(PACKAGE)
        frame = frame.f_back
    return count


class Counting(torch.nn.Module):
    """A Gaussian's eps_hat, and the frames of the package on the stack whenever it is asked for."""

    name, levels, image_shape, conditional, pixels = "counting", 17, (1, 8, 8), False, "centred"
    gamma_range = (-8.0, 5.0)

    def __init__(self):
        super().__init__()
        self.frames = []
        self.eval()

    def forward(self, z, gamma, cond=None):
        self.frames.append(frames_of_the_package())
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        return square.sqrt() * z / (0.49 * (1 - square) + square)


def watched(expert):
    """A bundled expert, and the frames on the stack at every call of its network: its own among them."""
    frames = []
    expert.net.register_forward_pre_hook(lambda *_: frames.append(frames_of_the_package()))
    return frames


@pytest.fixture
def built(monkeypatch):
    """How often sets of images, settings, and looks at an expert were made."""
    found = Counter()

    def counting(home, name, told):
        real = getattr(home, name)

        def counted(*given, **named):
            found[told] += 1
            return real(*given, **named)

        monkeypatch.setattr(home, name, counted)

    counting(Data, "__init__", "Data")
    counting(Settings, "__init__", "Settings")
    counting(checks, "check_repeats", "looks")  # at an expert
    return found


@pytest.fixture
def reads(monkeypatch):
    """How often each journal was read."""
    found = Counter()
    real = known_records.read_records, journals.parsed

    def read(path):
        found[str(path)] += 1
        return real[0](path)

    def parsed(content, path):
        found[str(path)] += 1
        return real[1](content, path)

    monkeypatch.setattr(known_records, "read_records", read)
    monkeypatch.setattr(journals, "parsed", parsed)
    return found


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["evaluation", "dry run"])
def test_every_journal_is_read_once(run_cli, experts, reads, options):
    pair = ("--likelihood-expert", experts("likelihood"), "--quality-expert", experts("quality"))
    nll = ("nll", "--data", "digits", *pair, "--eta", 0.3, "--compare", "--batch-size", 2, "--out", "run")
    assert run_cli(*nll, "--limit", 2, "--shard", "0/2").code == 0
    assert run_cli(*nll, "--limit", 2, "--shard", "1/2").code == 0
    reads.clear()
    result = run_cli(*nll, "--limit", 3, "--shard", "0/2", *options)
    assert result.code == 0, result.err
    assert len(reads) == 6  # of three models and two workers
    assert set(reads.values()) == {1}


@pytest.mark.parametrize("metric", ["nll", "vlb"])
@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["evaluation", "dry run"])
def test_a_sweep_that_goes_on_reads_every_journal_once(run_cli, experts, reads, options, metric):
    pair = ("--likelihood-expert", experts("likelihood"), "--quality-expert", experts("quality"))
    sweep = ("sweep", "--metric", metric, "--data", "digits", *pair, "--batch-size", 2, "--out", "swept")
    assert run_cli(*sweep, "--etas", "0,0.3,0.5", "--limit", 2).code == 0
    reads.clear()
    result = run_cli(*sweep, "--etas", "0,0.3,0.5,1", "--limit", 3, *options)
    assert result.code == 0, result.err
    assert len(reads) == (3 if options else 4)  # of the rows there were; a new one begins empty
    assert set(reads.values()) == {1}


def test_a_threshold_is_found_without_a_journal(run_cli, experts, reads):
    pair = ("--likelihood-expert", experts("likelihood"), "--quality-expert", experts("quality"))
    found = run_cli("threshold", "--data", "digits", *pair, "--limit", 2, "--tune-limit", 4, "--out", "found")
    assert found.code == 0, found.err
    assert not reads


@pytest.mark.parametrize("solver", [Adams(), Dopri5(1e-2, 1e-2), Dopri5(1e-2, 1e-2, shared=True)])
def test_few_frames_lie_between_a_call_and_the_network(solver):
    images = md.load_data("digits").select(limit=4)
    expert, pair = Counting(), md.load_pair("digits")
    md.log_likelihood(expert, images, solver=solver)
    assert max(expert.frames) <= 12  # the looks at it among them
    of_pair = [watched(one) for one in pair.experts]
    md.log_likelihood(pair, images, solver=solver)
    assert max(map(max, of_pair)) <= 12


def test_few_frames_lie_between_the_command_line_and_the_network(run_cli, monkeypatch):
    expert = Counting()
    monkeypatch.setattr("merged_diffusion.jobs.models.load_expert", lambda _, cache: expert)
    done = run_cli("nll", "--data", "digits", "--limit", 16, "--expert", "bundled:digits-vdm")
    assert done.code == 0, done.err
    assert max(expert.frames) <= 19  # and `main` of `__main__`


def test_few_frames_lie_between_the_command_line_and_a_bundled_network(run_cli, monkeypatch):
    frames = []

    def load(path, cache):
        expert = load_expert(path, cache=cache)
        frames.append(watched(expert))
        return expert

    monkeypatch.setattr("merged_diffusion.jobs.models.load_expert", load)
    done = run_cli("nll", "--data", "digits", "--limit", 16)
    assert done.code == 0, done.err
    assert max(map(max, frames)) <= 19


def test_a_command_makes_its_settings_and_looks_at_an_expert_once(run_cli, built):
    done = run_cli("nll", "--data", "digits", "--limit", 4, "--preset", "fast")
    assert done.code == 0, done.err
    assert built == {"Data": 2, "Settings": 1, "looks": 2}  # the whole set, and what is chosen of it
