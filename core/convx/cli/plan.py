"""convx plan: what would be written, exactly, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from convx.cli.options import planning, session_arguments

if TYPE_CHECKING:
    from convx.plan import Plan


@click.command("plan", short_help="Show what a conversion would write.")
@click.argument("source", default=".")
@planning
@click.option(
    "--diff",
    metavar="OTHER",
    help="Compare with OTHER: a saved --json plan, a converted checkpoint, or "
    "a source, which is planned with the same options.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a plan.")
def command(source: str, diff: str | None, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Plan a conversion of SOURCE: a folder, a Hub id, or a bare config.json. No weight is read."""
    arguments = session_arguments(given)
    from convx.cli.output import print_plan
    from convx.session import open_session

    plans = open_session(source, **arguments).plans
    if diff is not None:
        _print_differences(plans, diff, arguments, as_json=as_json)
        return
    for plan in plans:
        print_plan(plan, as_json=as_json)


def _print_differences(plans: Sequence[Plan], other: str, arguments: dict[str, Any], *, as_json: bool) -> None:
    """Each plan against OTHER, or against the plan of OTHER for the same format."""
    from convx.cli.difference import print_difference
    from convx.cli.output import print_json
    from convx.describe import plan_json
    from convx.diff import compare_json, read_other
    from convx.session import open_session

    saved = read_other(other)
    others = [saved] * len(plans) if saved else [plan_json(p) for p in open_session(other, **arguments).plans]
    for old, plan in zip(others, plans, strict=True):
        if as_json:
            print_json(compare_json(old, plan_json(plan)))
        else:
            print_difference(old, plan_json(plan))
