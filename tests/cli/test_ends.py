"""How a command ends where standard files are closed or full, arguments are absurd, or Ctrl-C comes early."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import pytest

from merged_diffusion.cli import LazyGroup, main, output

COMMAND = f"{sys.executable} -m merged_diffusion"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


@needs_full
@pytest.mark.parametrize("words", ["--help", "--version", "nll --help", "data list", "data list --json"])
def test_a_full_standard_output_is_a_storage_error(words: str, tmp_path: Path) -> None:
    done = shell(f"{COMMAND} {words} > /dev/full", tmp_path)
    assert done.returncode == 6
    assert done.stderr.startswith("error: standard output: cannot be written")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["--help", "nll --help", "data list"])
def test_a_reader_that_goes_away_ends_nothing_loudly(words: str, tmp_path: Path) -> None:
    gone = f"import subprocess as s; p = s.Popen('{COMMAND} {words}'.split(), stdout=s.PIPE)"
    script = f"{gone}; p.stdout.close(); raise SystemExit(p.wait())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_standard_error_changes_no_result_and_no_code(tmp_path: Path) -> None:
    assert shell(f"{COMMAND} data list --json 2>&-", tmp_path).stdout.startswith("{")
    failed = shell(f"{COMMAND} runs show nothing 2>&-", tmp_path)
    assert (failed.returncode, failed.stdout) == (7, "")


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-"])
def test_no_file_of_a_run_takes_the_place_of_a_closed_standard_file(closed: str, tmp_path: Path) -> None:
    look = "import os, sys; from merged_diffusion import __main__ as m; m._open_standard_files(); "
    look += "print('x', file=sys.stderr); sys.exit(os.open('a', os.O_CREAT | os.O_RDWR) < 3)"
    assert shell(f'{sys.executable} -c "{look}" {closed}', tmp_path).returncode == 0
    assert (tmp_path / "a").read_bytes() == b""


def test_ctrl_c_before_the_command_line_listens_is_one_word(tmp_path: Path) -> None:
    slow = "import sys, time\nclass Slow:\n def find_spec(self, name, path=None, target=None):\n"
    slow += "  if name == 'merged_diffusion.cli': print('now', flush=True); time.sleep(30)\n"
    slow += "sys.meta_path.insert(0, Slow())\nfrom merged_diffusion.__main__ import main\nmain()\n"
    with subprocess.Popen(
        [sys.executable, "-c", slow], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "now\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=20)[1] == "interrupted\n"
    assert child.returncode == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threads", [0, -1, (os.cpu_count() or 1) + 1, 10**12])
def test_threads_are_those_of_the_machine(threads: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nll", "--data", "digits", "--limit", "1", "--threads", str(threads)]) == 2
    assert "--threads" in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    ("nll", "--data", "digits", "--out", "a\0b"), ("sample", "--pair", "digits", "--out", "a\0.png"),
    ("data", "show", "a\0.npz"), ("runs", "report", "a\0b"), ("train", "a\0b", "--out", "o"),
])  # fmt: skip
def test_no_name_holds_a_nul(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(words)) == 2
    assert capsys.readouterr().err.count("\n") == 1


NPY = {"huge and empty": "|u1 (0, 9223372036854775807, 9223372036854775807, 3)",
       "huge": "|u1 (9223372036854775807,)",
       "of no bytes": "|S0 (0, 1, 8, 8)", "no axes": "|u1 ()"}  # fmt: skip


@pytest.mark.parametrize("kind", NPY)
def test_arrays_that_nothing_can_hold_are_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    descr, _, shape = NPY[kind].partition(" ")
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    assert main(["data", "show", str(path)]) == 3
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", [b"mine", b"\x89PNG\r\n\x1a\n broken", b"PK\3\4"])
def test_sample_leaves_a_file_of_others_alone(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "holiday.png"
    out.write_bytes(content)
    words = [
        "sample",
        "--pair",
        "digits",
        "--num",
        "1",
        "--sampler",
        "heun",
        "--steps",
        "2",
        "--device",
        "cpu",
    ]
    words += ["--threads", "1", "--quiet", "--out", str(out)]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]
    assert main([*words, "--overwrite"]) == 0
    first = out.read_bytes()
    assert main([*words, "--seed", "1"]) == 0  # a picture of ours is made anew
    assert out.read_bytes() != first


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_a_name_that_is_no_utf8_is_scored_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    import numpy as np

    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"im\xe9.npz")
    np.savez("a.npz", images=np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8) % 17, levels=17)
    Path("a.npz").rename(name)
    words = ["nll", "--data", name, "--pair", "digits", "--eta", "0.15", "--limit", "1", "--threads", "1"]
    words += ["--device", "cpu", "--quiet", "--out", "run"]
    assert main(words) == 0
    assert "im\\xe9.npz" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["name"] == name
    assert main(["runs", "report", "run", "--out", "a.html"]) == 0
    assert "im\\xe9.npz" in Path("a.html").read_text("utf-8")


@pytest.mark.parametrize(("asks", "code"), [(False, 1), (True, 130)])
def test_only_the_end_of_an_answer_is_an_interrupt(monkeypatch, capsys, asks: bool, code: int) -> None:
    @click.command()
    def command() -> None:
        if asks:
            click.confirm("go on?", abort=True, err=True)
        raise EOFError("No data left in file")

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: command)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["nll"]) == code
    assert ("interrupted" in capsys.readouterr().err) is asks


FAREWELL = """
import atexit, os
from pathlib import Path
source = Path({source!r}).read_text()
exec(source)
atexit.register(lambda: (print("BYE", flush=True), os.write(1, b"BYE\\n"), os.system("echo BYE")))
"""


def test_standard_output_holds_one_object_until_the_process_ends(start, experts, tmp_path) -> None:
    path = tmp_path / "farewell.py"
    path.write_text(FAREWELL.format(source=experts("").rstrip(":")))
    arguments = ("nll", "--data", "digits", "--expert", f"{path}:one", "--limit", 1, "--tol", 0.1, "--json")
    out, err = start(*arguments, "--threads", 1, "--device", "cpu").communicate(timeout=300)
    assert "bits_per_dim" in json.loads(out), err
    assert err.count("BYE") == 3


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_a_warning_once_and_a_file_has_it(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    text = "merged\nwarning: it is rough\nwarning: at an end"
    with output.remarks():
        warnings.warn("it is rough", stacklevel=1)
        output.emit(text)
    with output.remarks():  # another command
        output.emit(text)
    told, said = capsys.readouterr()
    assert said == "warning: it is rough\n"
    once = "merged\nwarning: at an end\n" if is_terminal else f"{text}\n"
    assert told == f"{once}{text}\n"
