"""convx demo: everything above on a tiny real checkpoint that it makes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click


@click.command("demo", short_help="Everything above on a tiny real checkpoint.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to keep; a temporary one if left out.")
@click.option("--format", "fmt", default="nvfp4", show_default=True)
def command(out: Path | None, fmt: str) -> None:
    """Make a tiny Gemma 4 MoE, convert it, load it with stock mlx-vlm, generate, verify, print the card."""
    from convx.demo import run_demo

    folder = out or Path(tempfile.mkdtemp(prefix="convx-demo-"))
    card = run_demo(folder, click.echo, fmt=fmt)
    click.echo("\n" + card.read_text())
