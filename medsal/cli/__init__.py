"""The command line: `medsal demo`, `explain`, `check`, `methods`, `layers`, `overlay`, `slicer`.

Exit status 0, or 2 with one line on stderr for bad input.
"""

import logging
import sys
import warnings
from collections.abc import Sequence

import typer

from medsal.cli import check, explain, listing  # noqa: F401  they join the application
from medsal.cli.app import app

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; for bad input exit with 2 and one line on stderr."""
    # MONAI warns and logs of its own affairs in every run; medsal's warnings are in the notes.
    warnings.simplefilter("ignore")
    logging.getLogger("monai").setLevel(logging.ERROR)
    try:
        status = app(args=arguments, standalone_mode=False)
    except typer.TyperException as error:
        # Called without a command, the message is the help itself: leave its lines alone.
        typer.echo(
            error.format_message()
            if type(error).__name__ == "NoArgsIsHelpError"
            else _line(error.format_message()),
            err=True,
        )
        status = 2
    except (ValueError, LookupError, TypeError, OSError, ImportError) as error:
        typer.echo(_line(str(error)), err=True)
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("medsal: stopped; nothing was left half written", err=True)
        status = 130
    sys.exit(status or 0)


def _line(message: str) -> str:
    return f"medsal: {' '.join(message.split())}"
