"""convx calibrate: make an importance matrix."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("calibrate", short_help="Make an importance matrix.")
@click.argument("source")
@click.option(
    "--text", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="Text to run."
)
@click.option("--image", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of images to run.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("imatrix.gguf"), show_default=True)
@click.option("--length", type=click.IntRange(8), default=512, show_default=True, help="Tokens in a window.")
@click.option("--windows", type=click.IntRange(1), help="Most windows to run; the whole text if left out.")
@click.option("--arch", help="Architecture plugin; detected if left out.")
def command(
    source: str, text: Path, image: Path | None, out: Path, length: int, windows: int | None, arch: str | None
) -> None:
    """Run SOURCE on text and images in its stock loader, and sum the squared activations of every linear.

    Held-out text for `convx measure` must be other text than this.
    """
    from convx.imatrix.calibrate import calibrate
    from convx.session import open_session

    prepared = open_session(source, arch=arch).prepared
    said = 0

    def watch(done: int, total: int) -> None:
        nonlocal said
        if done * 10 // total > said:
            said = done * 10 // total
            click.echo(f"calibrate: {done} of {total} windows", err=True)

    calibrate(prepared, out, text=text, images=image, length=length, windows=windows, watch=watch)
    click.echo(out)
