"""Commands in forks of a process of their own, which imports once and computes nothing itself.

A test's process has threads by then, and Python warns of every fork of it; this one has none.
"""

import json
import subprocess
import sys

SERVER = """
import json, os, sys
from merged_diffusion.cli import main
from merged_diffusion.jobs import blocks, evaluate, shared_measuring
from merged_diffusion.thresholds import choose, choose_switches
from merged_diffusion.quality import assess

def run(out, arguments, variables, gone):
    code = 70
    try:
        for stream, path in ((1, out), (2, out[: -len(".json")] + ".err")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.environ.update(variables)
        blocks.GONE_SECONDS = blocks.GONE_SECONDS if gone is None else gone
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)

for line in sys.stdin:
    asked = json.loads(line)
    if "child" in asked:
        answer = os.waitstatus_to_exitcode(os.waitpid(asked["child"], 0)[1])
    else:
        answer = os.fork() or run(**asked)
    print(answer, flush=True)
"""


class Forks:
    """The process, whose children run commands of the command line."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _answer(self, **asked):
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def begin(self, out, arguments, *, gone=None, **variables):
        """The number of a process that runs a command into a file; ``gone`` seconds, then others are."""
        words = [str(argument) for argument in arguments]
        named = {key: str(value) for key, value in variables.items()}
        return self._answer(out=str(out), arguments=words, variables=named, gone=gone)

    def ended(self, children):
        """Exit codes."""
        return [self._answer(child=child) for child in children]

    def close(self):
        with self._server:  # closes both ends, and waits
            pass
