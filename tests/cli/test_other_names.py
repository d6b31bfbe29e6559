"""Names that people try from elsewhere are understood, or told what ours is; none is a stack trace."""

import click
import pytest

from merged_diffusion.cli import COMMANDS, group, other_names

MEASURES = ("nll", "vlb", "sample", "sweep", "threshold")


def options(command: str) -> set[str]:
    found = group.get_command(click.Context(group), command)
    assert found is not None
    return {name for param in found.params for name in param.opts}


def words(command: str, *arguments: str) -> list[str]:
    found = group.get_command(click.Context(group), command)
    assert found is not None
    return other_names.in_our_words(arguments, click.Context(found, info_name=command))


@pytest.mark.parametrize("name", other_names.SAME)
def test_a_name_of_elsewhere_is_ours_in_some_command(name):
    ours = other_names.SAME[name]
    taking = [command for command in MEASURES if ours in options(command)]
    assert taking
    for command in taking:
        assert name not in options(command)
        assert words(command, name, "x")[0] == ours
        assert words(command, f"{name.replace('-', '_').replace('__', '--', 1)}=x")[0] == f"{ours}=x"


@pytest.mark.parametrize("name", other_names.OTHERWISE)
@pytest.mark.parametrize("command", MEASURES)
def test_a_name_that_means_something_else_is_refused_with_what_to_write(run_cli, command, name):
    if name in options(command):
        return
    result = run_cli(command, name, "7")
    assert result.code == 2
    assert f"{name} is no option here: " in result.err
    assert "{" not in result.err
    assert any(word in result.err for word in ("write ", "leave it out"))


@pytest.mark.parametrize("name", other_names.OTHERWISE)
def test_the_options_that_a_refusal_names_are_ours(name):
    ours = {option for command in COMMANDS for option in options(command)} | {"--version"}
    said = other_names.OTHERWISE[name]
    for text in [said] if isinstance(said, str) else said.values():
        named = {word.strip(",.;()") for word in text.split() if word.startswith("--")}
        assert named <= ours


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        (
            "nll",
            ("--network", "a.pkl"),
            "write --expert a.pkl for one network alone, or --quality-expert a.pkl",
        ),
        ("sample", ("--network=a.pkl",), "write --expert a.pkl for one network alone"),
        (
            "sample",
            ("--seeds", "0-63"),
            "write --ids 0:64 (an id is an image; --seed N is of all random numbers)",
        ),
        ("sample", ("--seeds", "7"), "--ids 7:8"),
        ("sample", ("--seeds", "0-3,9"), "--ids A:B"),
        ("nll", ("--seeds", "0-63"), "write --seed N"),
        ("sample", ("--sigma_min", "0.002"), "--sigma_min is no option here"),
        ("sample", ("--model",), "write --expert X"),
        (
            "nll",
            ("-n", "16"),
            "write --limit 16 (a random choice of as many images) or --ids 0:16 (the first)",
        ),
        ("nll", ("--tasks", "digits"), "write --data digits"),
        ("fid", ("--images", "x.npz"), "write merged-diffusion fid x.npz --ref REFERENCE"),
    ],
)
def test_the_sentence_names_what_was_given(run_cli, command, given, said):
    result = run_cli(command, *given)
    assert result.code == 2
    assert said in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (["--batch_size", "4"], ["--batch-size", "4"]),
        (["--Batch_Size=4"], ["--batch-size=4"]),
        (["--out", "--batch_size", "--batch", "4"], ["--out", "--batch_size", "--batch-size", "4"]),
        (["--quiet", "--output_path", "a_b"], ["--quiet", "--out", "a_b"]),
        (["--edm_sigma", "-1"], ["--edm-sigma", "-1"]),
        (["--", "--batch_size"], ["--", "--batch_size"]),
        (["--no_such", "--data"], ["--no_such", "--data"]),
        (["--out"], ["--out"]),
    ],
)
def test_names_are_ours_and_values_are_left_alone(given, ours):
    assert words("nll", *given) == ours


def test_short_names(run_cli):
    assert {"-o", "-q", "-b"} <= options("nll") & options("vlb") & options("sample") & options("sweep")
    assert "-n" in options("sample")
    done = run_cli("nll", "--data", "digits", "--limit", 2, "-b", 2, "-q", "-o", "kept", "--device", "cpu")
    assert done.code == 0
    assert done.err == ""
    assert "kept in kept: 2 images" in done.out


def test_steps_with_the_usual_sampler_say_which_sampler_has_them(run_cli):
    result = run_cli("sample", "--pair", "digits", "--num_inference_steps", 18)
    assert result.code == 2
    assert "write --sampler heun --steps 18" in result.err
    assert "write --sampler ancestral --clip" in run_cli("sample", "--pair", "digits", "--clip").err


def test_what_is_missing_and_what_is_no_number_say_what_to_write(run_cli):
    assert "Missing option '--data'. For instance --data photos" in run_cli("nll").err
    assert "Missing option '--ref'. For instance --ref digits" in run_cli("fid", "x.npz").err
    assert "Missing argument 'IMAGES'. For instance samples.npz" in run_cli("fid").err
    for command in (("nll", "--data", "digits"), ("fid", "x.npz", "--ref", "digits")):
        refused = run_cli(*command, "--batch_size", "auto")
        assert refused.code == 2
        assert "left out, it suits the device" in refused.err
        assert run_cli(*command, "-b", "0").code == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("nl",), "Did you mean 'nll'?"),
        (("treshold",), "Did you mean 'threshold'?"),
        (("runs", "shwo"), "Did you mean 'show'?"),
        (("runs", "list"), "No such command 'list'."),
        (("nll", "--limti", "3"), "--limit"),
        (("sample", "--smapler", "heun"), "--sampler"),
        (("generate",), "write merged-diffusion sample"),
        (("Evaluate",), "write merged-diffusion nll"),
    ],
)
def test_a_close_misspelling_is_told_the_name(run_cli, given, said):
    result = run_cli(*given)
    assert result.code == 2
    assert said in result.err


@pytest.mark.parametrize("name", other_names.COMMANDS)
def test_commands_of_elsewhere_lead_to_ours(name):
    first = other_names.COMMANDS[name].split()[0]
    assert name not in COMMANDS
    assert first in COMMANDS or first in ("--help", "--version")


def test_a_command_with_an_underscore_is_ours(run_cli):
    assert run_cli("fid_ref", "--help").out == run_cli("fid-ref", "--help").out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("help", "nll"), "merged-diffusion nll --help"),
        (("help", "runs", "export"), "merged-diffusion runs export --help"),
        (("runs", "help"), "merged-diffusion runs --help"),
        (("runs", "help", "export"), "merged-diffusion runs export --help"),
        (("help",), "merged-diffusion --help"),
    ],
)
def test_help_as_a_command_is_told_as_an_option(run_cli, words, line):
    done = run_cli(*words)
    assert done.code == 2
    assert done.err.rstrip().endswith(f"no command 'help': write {line}")
    assert run_cli(*line.split()[1:]).code == 0


def test_arguments_of_a_model_are_no_model(run_cli):
    done = run_cli("nll", "--model_args", "x=1")
    assert done.code == 2
    assert "--expert x=1" not in done.err
    assert "write --expert NAME for the model" in done.err
