"""convx patch: repair a checkpoint that exists."""

from __future__ import annotations

from pathlib import Path

import click

from convx.cli.options import _pair, _value


@click.command("patch", short_help="Apply post-save patches to an existing checkpoint.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--target", help="Loader to be pleased: mlx-lm, mlx-vlm, lmstudio, mlx-swift, mlx-node.")
@click.option("--generation", multiple=True, metavar="KEY=VALUE", help="Set a value of generation_config.json.")
@click.option("--dry-run", is_flag=True, help="Say what would change.")
def command(path: Path, target: str | None, generation: tuple[str, ...], dry_run: bool) -> None:
    """Apply what the architecture's plugin knows to repair in PATH, and the settings given."""
    from convx.patch import find_patches, patch_checkpoint

    settings = tuple((name, _value(value)) for name, value in (_pair(g, "--generation") for g in generation))
    patches = find_patches(path, target, settings)
    for patch in patches:
        click.echo(f"{'would change' if dry_run else 'changed'}: {patch.target}")
    if not patches:
        click.echo(f"{path}: nothing to patch")
    elif not dry_run:
        patch_checkpoint(path, patches)
