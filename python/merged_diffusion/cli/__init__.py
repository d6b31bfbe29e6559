"""The command line: a command parses, builds, calls and prints.

torch is loaded only once the options are sound. The exit code of an error is that of its class
(`merged_diffusion.errors`); under ``--json`` standard output holds exactly one JSON object
whatever happens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from merged_diffusion.cli import completion, output, stdout, workers
from merged_diffusion.cli.command_list import COMMANDS, LazyGroup
from merged_diffusion.cli.signals import handled
from merged_diffusion.errors import MergedDiffusionError, ResourceError, UsageError
from merged_diffusion.experts.memory import FEWER, is_out_of_memory

__all__ = ["COMMANDS", "group", "main"]

EXAMPLES: Final = """\b
Examples:
  merged-diffusion nll --data scenes --limit 64 --compare
  merged-diffusion nll --data digits --eta 0.3 --out results/digits
  merged-diffusion runs show results/digits
  merged-diffusion selftest
"""


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from merged_diffusion import _core

        output.emit(f"merged-diffusion {_core.__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def group() -> None:
    """Compare, merge and sample diffusion models by the exact likelihood of images.

    A diffusion model gives every image a probability, told here in bits per dimension: the fewer bits, the
    better it knows such images. Two pretrained models (experts) can be merged at a noise level, the
    threshold: one is in charge of low noise, where likelihood is decided, the other of high noise, where the
    look of an image is decided.

    Three data sets, scenes, photos and digits, and two experts for each are in the package: nothing needs to
    be downloaded to begin. merged-diffusion COMMAND --help shows the options of a command.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code (`docs/commands/runs.md` lists them)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Before torch is loaded: libgomp's spinning threads slow the core's loops twofold after a convolution.
    os.environ["GOMP_SPINCOUNT"] = "0"
    # Read when torch is loaded. Else each connection to a store that is lost is told by a trace of C++.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if completion.VARIABLE in os.environ:
        completion.for_bash()
    spelt = {argument.lower().replace("_", "-") for argument in arguments}
    as_json = not stdout.JSON.isdisjoint(spelt) and workers.tells(os.environ)
    streams = sys.stdout, sys.stderr
    try:
        with handled():
            for argument in arguments:
                if "\0" in argument:
                    raise UsageError(f"{argument!r} holds a NUL, which no name of a file can")
            return group.main(arguments, prog_name="merged-diffusion", standalone_mode=False) or 0
    except click.ClickException as error:
        return output.usage_error(error, as_json=as_json)
    except MergedDiffusionError as error:
        return output.refusal(error, as_json=as_json)
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # of a file: click's own questions hide theirs
            return output.unexpected(error.__cause__, as_json=as_json)
        return output.stopped("interrupted", 130, as_json=as_json)
    except SystemExit as stop:
        if sys.stdout not in streams:  # click took it away: its reader is gone
            sys.stdout, sys.stderr = streams
            return output.silenced()
        return output.stopped("terminated", int(stop.code or 0), as_json=as_json)
    except BrokenPipeError:
        return output.silenced()
    except OSError as error:
        output.silenced() if error.filename is None else None
        return output.refusal(output.unwritable(error), as_json=as_json)
    except Exception as error:  # noqa: BLE001  the last resort is to say that this is a fault of the program
        if is_out_of_memory(error):
            text = (str(error).splitlines() or [type(error).__name__])[0]
            return output.refusal(
                ResourceError(f"the memory does not suffice ({text})", hint=FEWER), as_json=as_json
            )
        return output.unexpected(error, as_json=as_json)
