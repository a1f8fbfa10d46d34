"""convx publish: send a checkpoint to the Hub."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("publish", short_help="Send a verified checkpoint to the Hub.")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--private", is_flag=True, help="A repository that only its owners see; public when not given.")
@click.option("--collection", metavar="SLUG", help="Also add it to this collection: owner/title-id.")
@click.option("--message", default="Upload with convx", show_default=True, help="What the commit says.")
@click.option("--dry-run", is_flag=True, help="Verify, list what would go, and send nothing.")
@click.option("--json", "as_json", is_flag=True)
def command(
    path: Path, repo: str, private: bool, collection: str | None, message: str, dry_run: bool, as_json: bool
) -> None:
    """Verify PATH, and send the files that its convx.json names to REPO (owner/name).

    The Hub's own login is used: `hf auth login`, or HF_TOKEN. HF_ENDPOINT names another Hub.
    """
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    from convx.card import gigabytes
    from convx.cli.output import print_json
    from convx.publish import plan_upload, publish

    upload = plan_upload(path, repo, private=private, collection=collection)
    for name in upload.left_out:
        click.echo(f"left out: {name}: not named in convx.json", err=True)
    if not sys.stderr.isatty():
        disable_progress_bars()
    url = None if dry_run else publish(upload, message=message)
    if as_json:
        print_json(upload.as_json() | {"url": url})
    elif url is not None:
        click.echo(url)
    else:
        for name, nbytes in upload.files.items():
            click.echo(f"{nbytes:>14,}  {name}")
        click.echo(f"{upload.what}: {len(upload.files)} files, {gigabytes(upload.nbytes)}; nothing was sent")
