"""Commands as processes of their own: begun, waited for, ended, and the records that they leave."""

import os
import subprocess
import sys
import time
from dataclasses import replace

SECONDS = 600  # that anything is waited for
COMMAND = ("-m", "merged_diffusion")


class Processes:
    """Those of a test, in one folder; `close` ends them."""

    def __init__(self, folder):
        self._folder, self._begun = folder, []

    def __call__(self, *arguments, launcher=COMMAND, **variables):
        """Begin a command, or what ``launcher`` makes of the arguments."""
        process = subprocess.Popen(
            [sys.executable, *launcher, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | {k: str(v) for k, v in variables.items()},
        )
        self._begun.append(process)
        return process

    def close(self):
        for process in self._begun:
            process.kill()
            process.communicate()


def wait(condition, process):
    """Until a condition holds, and no longer than the process lives."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def end(process, code=0):
    """What it printed, once it ended as it should."""
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == code, err
    return out, err


def records(folder):
    """Those of a run, whoever made them."""
    from merged_diffusion.runs import open_run  # not before the threads of workers are settled

    return [replace(record, environment=None) for record in open_run(folder).records()]


def rows(folder):
    """The records of each row of a sweep."""
    return {row.parent.name: records(row.parent) for row in sorted(folder.glob("*/settings.json"))}


def count(folder):
    """Lines of all journals in a folder."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("**/images-*.jsonl"))
