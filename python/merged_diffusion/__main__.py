"""``python -m merged_diffusion`` and the entry point ``merged-diffusion``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        _open_standard_files()
        from merged_diffusion.cli import main as command_line

        code = command_line()
    except KeyboardInterrupt:  # before the command line listens, nothing has been begun
        os.write(2, b"interrupted\n")
        code = 130
    # What is left is the interpreter's end, which an impatient second Ctrl-C would only make noisy.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


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
