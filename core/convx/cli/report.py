"""convx report: one HTML file to explore a checkpoint with."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report", short_help="Write a page to explore a checkpoint with.")
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where to write it; beside the checkpoint, as NAME-report.html, when not given.",
)  # fmt: skip
def command(path: Path, output: Path | None) -> None:
    """Write one HTML file about PATH: its modules with bits, size, error and reason, and its pictures.

    The file needs no network and no other file.
    """
    from convx.report_page import write_report

    click.echo(write_report(path, output))
