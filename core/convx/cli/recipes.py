"""convx recipes: what is on offer, what one says, and whether a file is sound."""

from __future__ import annotations

import click


@click.group("recipes", invoke_without_command=True, short_help="List recipes, show one, or check a file.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List recipes, show one, or check a file."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@command.command("list")
@click.option("--json", "as_json", is_flag=True)
def list_(as_json: bool) -> None:
    """List every recipe on offer with what it is for."""
    import json

    from convx.plugins import RECIPES, offers

    found = [
        {"name": name, "description": _description(name), "distribution": offer.distribution}
        for name, offer in sorted(offers(RECIPES).items())
    ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for row in found:
        click.echo(f"{row['name']:12} {row['description']}")


def _description(name: str) -> str:
    """What a recipe says of itself; one that cannot be read says why instead."""
    from convx.errors import ConvxError
    from convx.recipes import read_recipe

    try:
        return read_recipe(name).description
    except ConvxError as error:
        return f"error: {error.message}"


@command.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show the recipe NAME (or a TOML file): its parameters, and the text of it and of what it extends."""
    from convx.recipes import read_recipe

    recipe = read_recipe(name)
    click.echo(f"# {recipe.name} {recipe.source.version}: {recipe.description}")
    for parameter in recipe.parameters.values():
        value = str(parameter.default).lower() if isinstance(parameter.default, bool) else parameter.default
        click.echo(f"#   --set {parameter.name}={value}  {parameter.help}".rstrip())
    click.echo(f"\n{recipe.source.text.rstrip()}")


@command.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Check that each FILE is a sound recipe; the first fault is named with its line."""
    from convx.plugins import Formats
    from convx.recipes import load_recipe

    for file in files:
        recipe = load_recipe(file, {}, Formats()).recipe
        click.echo(f"{file}: ok, {len(recipe.rules)} rules, {len(recipe.parameters)} parameters")
