"""What people see: tables and bars by rich on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from convx.card import Facts, billions, gigabytes
from convx.convert import Quiet
from convx.describe import plan_json
from convx.plan import Plan
from convx.report import Report


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


class Watch(Quiet):
    """Progress for people: a bar on a terminal, one line a stage elsewhere."""

    def __init__(self, quiet: bool, log_json: bool) -> None:
        self._quiet = quiet
        self._log_json = log_json
        self._bar: Any = None
        self._task: Any = None
        self._done = 0
        self._total = 0
        self._started = time.monotonic()
        self._said = 0.0

    def announce(self, plans: Sequence[Plan], out: Path, max_memory: int) -> None:
        """What will be written, what room there is, what to know of it."""
        for plan in plans:
            self._say(
                "plan", f"{plan.base.spec}: {gigabytes(plan.total_bytes)}, {plan.bits_per_weight:.3f} bits per weight, "
                f"{billions(plan.parameters)} parameters",
                format=plan.base.spec, total_bytes=plan.total_bytes, bits_per_weight=plan.bits_per_weight,
            )  # fmt: skip
            for note in gathered(plan.warnings):
                self._say("note", note)
            for missing in plan.export.missing:
                self._say("note", f"the source has no {missing}")
        need = sum(shard.nbytes for plan in plans for shard in plan.shards)
        free = shutil.disk_usage(next(p for p in (out.parent, *out.absolute().parents) if p.is_dir())).free
        self._say(
            "room", f"{gigabytes(need)} to write, {gigabytes(free)} free; at most {gigabytes(max_memory)} in flight",
            bytes=need, free=free, max_memory=max_memory,
        )  # fmt: skip

    def stage(self, name: str, total: int = 0) -> None:
        self._total, self._done, self._started = total, 0, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description=name, total=total or None, completed=0, tensor="")
        else:
            self._say("stage", name)

    def advance(self, nbytes: int, tensor: str) -> None:
        self._done += nbytes
        if self._bar is not None:
            self._bar.update(self._task, advance=nbytes, tensor=tensor[-48:])
        elif self._log_json and time.monotonic() - self._said > 1:
            self._said = time.monotonic()
            seconds = max(1e-6, self._said - self._started)
            self._say("progress", tensor, done=self._done, total=self._total, bytes_per_second=self._done / seconds)

    def _say(self, kind: str, text: str, **values: object) -> None:
        if self._log_json:
            click.echo(json.dumps({"event": kind, "text": text, **values}), err=True)
        elif not self._quiet:
            click.echo(f"{kind}: {text}", err=True)


@contextmanager
def watcher(*, quiet: bool, log_json: bool) -> Iterator[Watch]:
    watch = Watch(quiet, log_json)
    if quiet or log_json or not sys.stderr.isatty():
        yield watch
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[tensor]}", style="dim"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        watch._bar, watch._task = bar, bar.add_task("plan", total=None, tensor="")
        yield watch


def print_reports(reports: Sequence[Report], *, as_json: bool) -> None:
    if as_json:
        print_json([
            {"path": str(r.path), "seconds": r.seconds, "resumed_bytes": r.resumed_bytes, **_summary(r.plan)}
            for r in reports
        ])  # fmt: skip
        return
    for report in reports:
        plan = report.plan
        click.echo(f"{report.path}: {gigabytes(plan.total_bytes)}, {plan.bits_per_weight:.3f} bits per weight, "
                   f"verified, {report.seconds:.1f} s{_resumed(report)}")  # fmt: skip
        for warning in set(report.warnings) - set(plan.warnings):
            click.echo(f"note: {warning}", err=True)


def _resumed(report: Report) -> str:
    return f", {gigabytes(report.resumed_bytes)} of the source done before" if report.resumed_bytes else ""


def _summary(plan: Plan) -> dict[str, Any]:
    keys = ("architecture", "format", "recipe", "parameters", "bits_per_weight", "total_bytes", "overrides", "warnings")
    full = plan_json(plan)
    return {key: full[key] for key in keys}


def print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json(plan_json(plan))
        return
    print_record(plan_json(plan))


def print_record(record: dict[str, Any]) -> None:
    """A plan or a record as a table by role, with totals, what was dropped and what fell back."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in (("role", "left"), ("tensors", "right"), ("parameters", "right"), ("share", "right"),
                          ("stored as", "left"), ("bytes", "right"), ("why", "left")):  # fmt: skip
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in Facts(record).by_role:
        table.add_row(row.role, str(row.tensors), billions(row.parameters), f"{100 * row.share:.1f} %",
                      ", ".join(row.specs), gigabytes(row.bytes), "; ".join(row.reasons))  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(
        f"{record['architecture']} {record['format']}{' ' + record['recipe'] if record['recipe'] else ''}: "
        f"{record['parameters']:,} parameters, {record['total_bytes']:,} bytes "
        f"({record['total_bytes'] / 2**30:.2f} GiB), "
        f"{record['bits_per_weight']:.3f} bits per weight, {record['overrides']} overrides", highlight=False,
    )  # fmt: skip
    for reason, count in _counted(d["reason"] for d in record["dropped"]):
        console.print(f"dropped: {count} tensors: {reason}", highlight=False)
    for note in gathered(record["warnings"]):
        console.print(f"note: {note}", highlight=False, markup=False)


def gathered(warnings: Iterable[str]) -> list[str]:
    """Warnings that differ only in the tensor that they begin with, as one each."""
    places: dict[str, list[str]] = {}
    for warning in warnings:
        place, _, what = warning.partition(": ")
        places.setdefault(what, []).append(place)
    return [_told(of, what) for what, of in places.items()]


def _told(places: list[str], what: str) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}: {what}" if what else places[0]


def _counted(items: Iterator[str]) -> list[tuple[str, int]]:
    from collections import Counter

    return Counter(items).most_common()
