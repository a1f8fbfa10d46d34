"""The command line. Each command is a file of this package, imported only when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from convx.cli.root import cli
from convx.errors import ConvxError

__all__ = ["cli", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors become one message on stderr, and an exit code."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


_STOPPED = "stopped; run the same command again to go on"


def _converts(arguments: list[str]) -> bool:
    from convx.cli.root import COMMANDS

    return not arguments or arguments[0] == "convert" or arguments[0] not in COMMANDS


def run(arguments: list[str]) -> int:
    import click

    debug = "--debug" in arguments or bool(os.environ.get("CONVX_DEBUG"))
    try:
        return int(cli.main(args=[a for a in arguments if a != "--debug"], standalone_mode=False) or 0)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(_STOPPED if _converts(arguments) else "stopped", err=True)
        return 130
    except ConvxError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(f"error: {type(error).__name__}: {error}\n  a fault of convx; --debug shows where", err=True)
        return 1
