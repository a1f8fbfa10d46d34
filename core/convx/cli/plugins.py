"""convx plugins: what is installed, and the skeleton of a new one."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("plugins", invoke_without_command=True, short_help="List plugins, or start a new one.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List plugins, or start a new one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@command.command("list")
@click.option("--json", "as_json", is_flag=True)
def list_(as_json: bool) -> None:
    """List every plugin on offer, with the distribution that offers it; imports none."""
    from convx.plugins import GROUPS, offers

    found = [(group.rpartition(".")[2], o.name, o.distribution, o.version) for group in GROUPS
             for _, o in sorted(offers(group).items())]  # fmt: skip
    if as_json:
        import json

        keys = ("kind", "name", "distribution", "version")
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in found], indent=2))
        return
    for kind, name, distribution, version in found:
        click.echo(f"{kind:14} {name:16} {distribution} {version}")


@command.command("new")
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Folder to make it in.")
def new(name: str, into: Path) -> None:
    """Make the folder of a new plugin package: an architecture and a format, with their tests."""
    from convx.newplugin import make_plugin

    click.echo(make_plugin(name, into))
