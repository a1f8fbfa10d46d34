"""convx compare: checkpoints of one model side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convx.cli.measuring import results, texts

_FILE = click.Path(path_type=Path)


@click.command("compare", short_help="Compare checkpoints of one model.")
@click.argument("paths", nargs=-1, required=True, type=_FILE)
@texts
@click.option("--out", type=_FILE, help="Write the Markdown table to a file as well.")
@click.option("--picture", type=_FILE, metavar="FILE.svg|png", help="Draw size against divergence.")
@results
def command(paths: tuple[Path, ...], **given: Any) -> None:  # noqa: ANN401
    """One table of PATHS: bits, size, divergence, perplexity, speed and memory; and which differences are real.

    Recorded measurements are used where they were made on the same windows against the same reference; what is
    missing is measured and recorded. Speed is shown where `convx measure --speed` recorded it.
    """
    from convx.cli.measuring import settings, watching
    from convx.cli.output import print_json
    from convx.measure.comparison import compare
    from convx.measure.picture import draw
    from convx.measure.table import to_markdown

    with watching(given["quiet"]) as steps:
        found = compare(paths, settings(given), record=not given["no_record"], steps=steps)
    if given["picture"] is not None:
        draw(found, given["picture"])
    if given["out"] is not None:
        given["out"].write_text(to_markdown(found), encoding="utf-8")
    if given["as_json"]:
        print_json(found)
    else:
        click.echo(to_markdown(found), nl=False)
