"""What the documents say is so: commands parse, functions exist, sources are listed, examples run."""

import importlib
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from merged_diffusion import _core
from merged_diffusion.cli import group

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benches" / "README.md",
    ROOT / "examples" / "README.md",
]
SOURCES = [*(ROOT / "python").rglob("*.py"), *(ROOT / "rust").rglob("*.rs")]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of a language, but for those on a condition, which are of tests/test_pages.py."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^(?<! -->\n)```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """Every `merged-diffusion ...` in the shell blocks, without what the shell makes of it."""
    for path in DOCUMENTS:
        for block in blocks(path, "sh"):
            lines = block.replace("\\\n", " ").splitlines()
            for part in (part for line in lines for part in re.split(r"&&?|;|\|", line)):
                found = re.match(r"\s*(?:do )?(?:\S*/)?merged-diffusion (.*)", part)
                if found:
                    yield found[1].replace("$eta", "0.4").replace("$i", "0").strip()


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_in_the_documents_is_one(line: str) -> None:
    words = shlex.split(line)
    command: click.Command = group
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    command.make_context(command.name, words)


def test_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    environment = "python3 -m venv .venv && .venv/bin/pip install"
    nll = ".venv/bin/merged-diffusion nll --data scenes --limit 64 --compare"
    assert text.count(f"\n{environment} . && {nll}\n") == 1
    # .ci/run takes the one line that names pytest.
    assert [line for line in text.splitlines() if "-m pytest" in line] == [
        f"{environment} '.[test]' && .venv/bin/python -m pytest -n 2"
    ]


def test_the_lines_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) >= 3


def scripts() -> set[str]:
    """Every `python FOLDER/SCRIPT.py` of the documents, but for those of tests and examples."""
    return {
        name
        for path in DOCUMENTS
        for block in blocks(path, "sh")
        for name in re.findall(r"python ((?:recipes|benches)/[\w/]+\.py)", block)
    }


@pytest.mark.parametrize("name", sorted(scripts()))
def test_the_scripts_in_the_documents_find_what_they_import(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / name
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr("sys.argv", [str(path), "--help"])
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name}, of the group bench")
    assert end.value.code == 0


FEWER = {"trade_off.py": ["--limit", "4", "--num", "32"]}


@pytest.mark.filterwarnings("ignore:at gamma_min")
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=shown)
def test_examples_run(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path), *FEWER.get(path.name, [])])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert not [target for target in local if not (path.parent / target).exists()]


def cells() -> Iterator[tuple[str, str]]:
    """File and name of every function in the tables of docs/equations.md."""
    for line in (ROOT / "docs" / "equations.md").read_text(encoding="utf-8").splitlines():
        for place in line.rpartition(" | ")[2].split(";") if line.startswith("| ") else ():
            found = re.search(r"`([\w/]+(?:\.py|\.rs)|_core)`: (.*)", place)
            if found:
                yield from ((found[1], name) for name in re.findall(r"`(\w+)`", found[2]))


@pytest.mark.parametrize(("file", "name"), sorted(set(cells())))
def test_functions_of_the_equations_exist(file: str, name: str) -> None:
    if file == "_core":
        assert hasattr(_core, name)
        return
    is_rust, is_test = file.endswith(".rs"), file.startswith("tests/")
    folder = ROOT / ("rust/core/src" if is_rust else "" if is_test else "python/merged_diffusion")
    code = (folder / file).read_text(encoding="utf-8")
    assert re.search(rf"\b(?:def|class|fn|struct|enum|trait|const) {name}\b", code)


def test_sources_are_in_the_bibliography() -> None:
    """Every "(Author ... year" of code and documents."""
    bibliography = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8").split("## Bibliography")[1]
    entries = [line.split(").")[0] for line in bibliography.splitlines() if line.startswith("- ")]
    missing = set()
    for path in (*SOURCES, *DOCUMENTS):
        for author, year in re.findall(
            r"\b([A-Z][\wø-]+)(?: et al\.)? ((?:19|20)\d\d)\b", path.read_text("utf-8")
        ):
            if not any(author in entry and f"({year}" in entry for entry in entries):
                missing.add(f"{author} {year} in {shown(path)}")
    assert not missing


# Names in the documents, so that one which is gone is found.

INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
# Of other programs, and what a reader's own file is called in an example.
FOREIGN_OPTIONS = {"--bench", "--group", "--help", "--max-restarts"}
FOREIGN_FILES = {"card.toml", "eval.py", "file.py", "mine.py", "train.py"}
PLACES = (ROOT, ROOT / "python" / "merged_diffusion", ROOT / "rust" / "core" / "src", ROOT / "rust")
FILES = {
    path.name: path
    for folder in ("benches", "examples", "python", "recipes", "rust", "tests")
    for path in sorted((ROOT / folder).rglob("*.*"))
}


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def options(command: click.Command) -> set[str]:
    """Of a command and those below it."""
    own = {word for option in command.params for word in (*option.opts, *option.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            own |= set() if below is None else options(below)
    return own


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_options_in_the_text_exist(path: Path) -> None:
    known = options(group) | FOREIGN_OPTIONS
    text = re.sub(r"^## Names of elsewhere\n.*?(?=^## )", "", prose(path), flags=re.MULTILINE | re.DOTALL)
    found = {
        word
        for code in INLINE.findall(text)
        if code.startswith(("--", "merged-diffusion "))
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)
    }
    assert not found - known


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=shown)
def test_names_of_the_package_in_the_text_exist(path: Path) -> None:
    """`merged_diffusion.a.b` and `md.b`, called or not."""
    missing = []
    for code in INLINE.findall(prose(path)):
        found = re.match(r"(?:merged_diffusion|md)((?:\.\w+)+)", code)
        if found and not exists(found[1].lstrip(".").split(".")):
            missing.append(code)
    assert not missing


def exists(names: list[str]) -> bool:
    """Whether the package has modules and attributes of these names, one within the other."""
    here: object = importlib.import_module("merged_diffusion")
    path = "merged_diffusion"
    for name in names:
        path += f".{name}"
        try:
            here = getattr(here, name)
        except AttributeError:
            try:
                here = importlib.import_module(path)
            except ModuleNotFoundError:
                return False
    return True


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_files_in_the_text_exist(path: Path) -> None:
    """`runs/lock.py`, `tests/test_bits.py::test_name`: below root, package or core; or a name alone."""
    text = path.read_text(encoding="utf-8")
    found_on = re.findall(r"^```\w+\n# (\S+)$|^<!-- with (\S+) of ", text, re.MULTILINE)
    made = {name for names in found_on for name in names}
    missing = []
    for code in INLINE.findall(prose(path)):
        found = re.fullmatch(r"([\w./-]+\.(?:py|rs|toml|md|yml))(?:::(\w+))?", code)
        if not found or found[1] in FOREIGN_FILES | made or found[1].startswith((".", "NAME")):
            continue
        places = [place / found[1] for place in (path.parent, *PLACES) if (place / found[1]).exists()]
        if "/" not in found[1] and found[1] in FILES:
            places.append(FILES[found[1]])
        if not places or (found[2] and found[2] not in places[0].read_text(encoding="utf-8")):
            missing.append(code)
    assert not missing


# The page of the command line is not yet written so; the changelog has an entry a line.
SENTENCES = [path for path in DOCUMENTS if shown(path) != "CHANGELOG.md"]


@pytest.mark.parametrize("path", SENTENCES, ids=shown)
def test_a_sentence_is_a_line(path: Path) -> None:
    """A changed sentence is then a changed line: ``python .ci/sentences.py FILE`` makes it so."""
    broken = runpy.run_path(str(ROOT / ".ci" / "sentences.py"))["broken"]
    text = path.read_text(encoding="utf-8")
    assert broken(text).splitlines() == text.splitlines()


def test_sentences_are_told_from_what_looks_like_their_end() -> None:
    broken = runpy.run_path(str(ROOT / ".ci" / "sentences.py"))["broken"]
    text = (
        "One (A. B. and c. D) is.\nTwo of `a. B` by X et al. 2020, eq. 3. Three\ngoes on.\n\n- Four. Five.\n"
    )
    assert broken(text).splitlines() == [
        "One (A. B. and c. D) is.",
        "Two of `a. B` by X et al. 2020, eq. 3.",
        "Three goes on.",
        "",
        "- Four.",
        "  Five.",
    ]
