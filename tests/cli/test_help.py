"""The help is for somebody who knows no word of it: headings, 80 columns, and nothing heavy is loaded."""

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from merged_diffusion.cli import COMMANDS, group, help_screen
from merged_diffusion.cli.command_list import SECTIONS


def commands(of: click.Command = group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(of, click.Group):
        for name in of.list_commands(click.Context(of)):
            found = of.get_command(click.Context(of), name)
            assert found is not None
            yield from commands(found, (*path, name))


def of(path: tuple[str, ...]) -> click.Command:
    found: click.Command = group
    for name in path:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), name)
        assert inner is not None
        found = inner
    return found


def headings(text: str) -> list[str]:
    return re.findall(r"^(\S.*):$", text, re.MULTILINE)


every = pytest.mark.parametrize("path", list(commands()), ids=lambda path: " ".join(path) or "group")


@every
def test_help_fits_80_columns(run_cli, path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run_cli(*path, "--help").out.splitlines())) <= 80


@every
def test_every_option_says_what_it_is_in_a_sentence(path):
    for param in of(path).params:
        if isinstance(param, click.Option):
            assert param.help
            assert param.help.endswith((".", "write nothing.")), param.name
            assert param.help[0].isupper() or ":" in param.help, param.name


@every
def test_many_options_stand_under_headings_and_all_have_one(run_cli, path):
    options = [param for param in of(path).params if isinstance(param, click.Option)]
    found = headings(run_cli(*path, "--help").out)
    if len(options) < help_screen.FEW:
        assert "Options" in found
        return
    known = {name for names in help_screen.HEADINGS.values() for name in names}
    here = [heading for heading in help_screen.HEADINGS if heading in found]
    assert len(here) >= 4
    assert [heading for heading in found if heading in help_screen.HEADINGS] == here
    assert {param.name for param in options} - known <= {"stored"}


def test_headings_name_options_that_there_are():
    there = {param.name for path in commands() for param in of(path).params}
    assert {name for names in help_screen.HEADINGS.values() for name in names} <= there


def test_commands_stand_under_headings(run_cli):
    text = run_cli("--help").out
    assert headings(text) == ["Examples", *SECTIONS, "Options"] or headings(text) == [*SECTIONS, "Options"]
    assert text.index("diffusion models") < text.index("Examples:") < text.index("Measure:")
    assert all(re.search(rf"^  {name} +\S", text, re.MULTILINE) for name in COMMANDS)


def test_the_first_screen_of_a_long_help_holds_examples_and_the_images(run_cli):
    first = run_cli("nll", "--help").out.splitlines()[:24]
    assert any(line.strip() == "Examples:" for line in first)
    assert any("--data" in line and not line.strip().startswith("merged") for line in first)


@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("import merged_diffusion", "merged_diffusion._core click"),
        ("from merged_diffusion.cli import main; main(['--help'])", "merged_diffusion._core"),
        *((f"from merged_diffusion.cli import main; main([{name!r}, '--help'])", "") for name in COMMANDS),
        ("from merged_diffusion.cli import main; main(['nll', '--data'])", ""),
        ("from merged_diffusion.cli import main; main(['nll', '--data', 'digits', '--model', 'x'])", ""),
    ],
)
def test_who_asks_for_help_loads_nothing_heavy(code, never):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "merged_diffusion" in loaded
    assert not loaded & {"torch", "numpy", "scipy", "matplotlib", "jinja2", "PIL", "tqdm", *never.split()}
