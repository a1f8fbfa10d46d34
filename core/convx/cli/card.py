"""convx card: render the model card again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("card", short_help="Render the model card again.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--template", type=click.Path(path_type=Path), help="A Jinja template of your own; it may extend card.md.j2."
)
@click.option("--pictures", is_flag=True, help="Draw pictures, and show them on the card (needs convx[plot]).")
@click.option("--stdout", is_flag=True, help="Print the card instead of writing it.")
def command(path: Path, template: Path | None, pictures: bool, stdout: bool) -> None:
    """Render README.md of PATH from its convx.json."""
    from convx.card import Facts, render, write_card
    from convx.checkpoint import read_record
    from convx.options import Options
    from convx.session import make_hooks

    if pictures:
        from convx.pictures import draw_pictures, record_pictures

        record_pictures(path, draw_pictures(path))
    record = read_record(path)
    hooks = make_hooks(record["architecture"], [record["format"]], None, Options())
    if stdout:
        click.echo(render(Facts(record), hooks, template), nl=False)
    else:
        click.echo(write_card(path, hooks, template))
