"""All that writes, renames, locks or removes files, by name: a new writer goes through `runs.directory`."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "python" / "merged_diffusion"

# Where files are changed but by way of `Directory`, `Lock` and `write_file`, and why that is right.
ALLOWED = {
    **{("runs/places.py", what): "the mechanism" for what in ("mkdir", "rmdir")},
    **{("runs/directory.py", what): "the mechanism" for what in (
        "os.open", "os.mkdir", "os.rename", "os.unlink", "os.rmdir", "os.write",
    )},
    ("runs/lock.py", "os.open"): "a claim, made in the open directory, new or not at all",
    ("runs/lock.py", "fcntl.flock"): "the mechanism",
    ("runs/journal.py", "os.ftruncate"): "the torn tail of the file that `Directory.open` gave",
    ("sampling/sample_files.py", "np.savez"): "into memory",
    ("fetch/photographs.py", "np.savez"): "into memory",
    ("flow_statistics.py", "np.savez"): "into memory",
    ("jobs/kept_rows.py", "np.savez"): "into memory",
    ("sampling/sample_files.py", "zipfile.ZipFile"): "into memory",
    ("data/mosaic.py", "save"): "PNG into memory",
    ("sampling/sample_files.py", "save"): "PNG into memory",
    ("quality/statistics_files.py", "np.savez"): "into memory",
    ("quality/inception.py", "torch.save"): "into memory",
    ("reports/shown_images.py", "save"): "PNG into memory",
    ("training/finished.py", "save"): "weights as bytes",
    ("training/fitting.py", "save"): "by `TrainingState.save` into a `Directory`",
    ("training/image_cache.py", "np.savez"): "into memory",
    ("training/report_lines.py", "savefig"): "into memory",
    ("training/sample_grid.py", "save"): "PNG into memory",
    ("training/state.py", "save"): "weights as bytes",
    ("sweeps/drawn.py", "TemporaryDirectory"): "a place of the system's for samples that nobody keeps",
    ("cli/shared_work.py", "TemporaryDirectory"): "the same for rows that nobody keeps",
    ("experts/converting.py", "save"): "weights as bytes",
    **{("experts/converting.py", what): "a folder of a random name, just made" for what in (
        "mkdir", "rmdir", "replace", "shutil.rmtree", "open",
    )},
    **{("experts/exporting.py", what): "a folder of a random name, just made" for what in (
        "mkdir", "replace", "shutil.rmtree", "open", "torch.save", "write_text",
    )},
    ("fetch/__init__.py", "mkdir"): "folders of the cache",
    ("fetch/__init__.py", "replace"): "a download that is whole takes its name",
    ("plots/look.py", "savefig"): "into memory",
    ("fetch/transfer.py", "unlink"): "the mark of a download, by name",
    ("fetch/transfer.py", "truncate"): "the descriptor that `Directory` gave",
    ("cli/help_screen.py", "write_text"): "of click's formatter, into memory",
    ("cli/output.py", "os.open"): "/dev/null",
    ("cli/stdout.py", "os.open"): "/dev/null",
    ("__main__.py", "os.open"): "/dev/null, in the place of a standard file that is closed",
    ("__main__.py", "open"): "/dev/null, likewise",
    ("__main__.py", "os.write"): "one line on standard error",
    ("files/reading.py", "os.open"): "to read",
}  # fmt: skip
METHODS = {
    "write_text", "write_bytes", "unlink", "rmdir", "mkdir", "symlink_to", "hardlink_to", "touch",
    "truncate", "chmod", "save", "save_file", "savefig", "tofile", "makedirs",
}  # fmt: skip
CALLS = {
    "os.open", "os.write", "os.pwrite", "os.rename", "os.replace", "os.unlink", "os.remove",
    "os.rmdir", "os.mkdir", "os.makedirs", "os.link", "os.symlink", "os.truncate", "os.ftruncate",
    "os.mkfifo", "np.save", "np.savez", "np.savez_compressed", "torch.save", "fcntl.flock",
    "fcntl.lockf", "shutil.rmtree", "shutil.move", "shutil.copy", "shutil.copyfile",
    "shutil.copytree", "TemporaryDirectory", "NamedTemporaryFile", "mkstemp", "mkdtemp",
    "FileLock", "SoftFileLock",
}  # fmt: skip


def written_mode(call: ast.Call, position: int) -> bool:
    modes = [*call.args[position : position + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    return any(isinstance(m, ast.Constant) and set(str(m.value)) & set("wax+") for m in modes)


def changing(call: ast.Call) -> str | None:
    """How a call changes files, as it is written; None where it does not."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name in CALLS or last in CALLS:
        return name
    if last == "ZipFile" and written_mode(call, 1):
        return name
    if last == "open" and written_mode(call, 0 if "." in name else 1):
        return "open"
    if not isinstance(call.func, ast.Attribute):
        return last if last in ("save", "save_file") else None
    if last in ("replace", "rename") and len(call.args) == 1 and not call.keywords:
        return last  # a path's: strings, and a `Directory`, take two
    return last if last in METHODS else None


def found() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            what = changing(node) if isinstance(node, ast.Call) else None
            if what is not None:
                yield path.relative_to(PACKAGE).as_posix(), what


def test_every_writer_of_the_package_goes_through_an_open_directory_or_says_why_not():
    assert set(found()) == set(ALLOWED)


def test_the_search_finds_each_way_to_change_a_file():
    ways = """open(p, "w"); p.open("ab"); p.write_text(t); p.write_bytes(b); os.open(p, f); p.rename(q)
p.replace(q); os.replace(p, q); p.unlink(); shutil.rmtree(p); p.mkdir(); p.symlink_to(q); np.save(p, a)
save_file(t, p); image.save(p); FileLock(p); filelock.FileLock(p); zipfile.ZipFile(p, "w"); p.touch()
io.open(p, mode="x"); os.unlink(p); tempfile.mkdtemp(); os.ftruncate(f, 0)"""
    calls = [node for node in ast.walk(ast.parse(ways)) if isinstance(node, ast.Call)]
    assert all(changing(call) for call in calls)
    for reading in ("open(p)", 'p.open("rb")', 's.replace("a", "b")', "dataclasses.replace(x, y=1)"):
        assert changing(ast.parse(reading).body[0].value) is None
