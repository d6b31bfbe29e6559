"""``python -m merged_diffusion`` and the entry point ``merged-diffusion``."""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of: at once, where that one takes a while
import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    _signal.signal(_signal.SIGINT, _leave)
    _open_standard_files()
    from merged_diffusion.cli import main as command_line
    from merged_diffusion.cli import stdout

    if not stdout.JSON.isdisjoint(sys.argv):
        stdout.keep()
    code = command_line()
    # What is left is the interpreter's end, which an impatient second Ctrl-C would only make noisy.
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    sys.exit(code)


def _leave(number: int, frame: object) -> None:  # noqa: ARG001  the handler's signature
    """End at once: before the command line listens, nothing has been begun that could be left behind."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def _open_standard_files() -> None:
    """Have descriptors 0 to 2: the next file that is opened would be taken for one that was closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  for ever


if __name__ == "__main__":
    main()
