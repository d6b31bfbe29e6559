"""``python -m merged_diffusion`` and the entry point ``merged-diffusion``."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from merged_diffusion.cli import main as command_line

    sys.exit(command_line())


if __name__ == "__main__":
    main()
