"""convx plan: what would be written, exactly, and why."""

from __future__ import annotations

from typing import Any

import click

from convx.cli.options import planning, session_arguments


@click.command("plan", short_help="Show what a conversion would write.")
@click.argument("source", default=".")
@planning
@click.option("--json", "as_json", is_flag=True, help="One JSON object a plan.")
def command(source: str, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Plan a conversion of SOURCE: a folder, a Hub id, or a bare config.json. No weight is read."""
    arguments = session_arguments(given)
    from convx.cli.output import print_plan
    from convx.session import open_session

    for plan in open_session(source, **arguments).plans:
        print_plan(plan, as_json=as_json)
