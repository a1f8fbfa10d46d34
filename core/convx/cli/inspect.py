"""convx inspect: what is in a checkpoint, made by convx or not."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("inspect", short_help="Show what is in a checkpoint.")
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option("--json", "as_json", is_flag=True)
def command(path: Path, as_json: bool) -> None:
    """Show architecture, bits by role and totals of PATH, in the words of `convx plan`."""
    from convx.cli.output import print_json, print_record
    from convx.inspect import inspect_checkpoint

    record = inspect_checkpoint(path)
    if as_json:
        print_json(record)
    else:
        print_record(record)
