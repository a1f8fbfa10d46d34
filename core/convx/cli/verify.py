"""convx verify: audit a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify", short_help="Audit a checkpoint.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--against", metavar="SOURCE", help="Also give each tensor's relative error against its source.")
@click.option(
    "--imatrix", type=click.Path(path_type=Path), help="The importance matrix folded into PATH, for --against."
)
@click.option("--no-checksums", is_flag=True, help="Do not read the files to compare their checksums.")
@click.option("--json", "as_json", is_flag=True)
def command(path: Path, against: str | None, imatrix: Path | None, no_checksums: bool, as_json: bool) -> None:
    """Compare PATH with its record, with the rules of each loader, and load it strictly in both."""
    from convx.cli.output import print_json
    from convx.verify import verify

    verdict = verify(path, checksums=not no_checksums)
    result = verdict.as_json()
    if against is not None:
        from convx.measure.tensors import measure_tensors

        result["tensors"] = measure_tensors(path, against, imatrix=imatrix)
    if as_json:
        print_json(result)
    else:
        for finding in verdict.findings:
            click.echo(str(finding))
        for row in result.get("tensors", ()):
            click.echo(f"{row['relative_error']:.5f}  {row['format']:12} {row['name']}")
        click.echo(f"{path}: {'ok' if verdict.ok else 'not ok'}; loads in {', '.join(verdict.loaders) or 'no loader'}")
    if not verdict.ok:
        raise click.exceptions.Exit(1)
