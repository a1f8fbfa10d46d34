"""The table of `convx plan --diff`."""

from __future__ import annotations

import sys
from typing import Any

from convx.card import billions, gigabytes
from convx.diff import Change, compare

_COLUMNS = {
    "role": "left", "tensors": "right", "parameters": "right", "stored as": "left", "bytes": "right",
    "bits per weight": "right",
}  # fmt: skip


def print_difference(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Rows for what differs, one line for what does not, and totals; `old` is the --diff side."""
    from rich.console import Console
    from rich.table import Table

    changes = compare(old, new)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in _COLUMNS.items():
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for change in changes:
        if change.changed:
            table.add_row(*_cells(change))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    same = [change for change in changes if not change.changed]
    console.print(f"alike: {sum(c.tensors for c in same)} tensors, {gigabytes(sum(c.new_bytes for c in same))}")
    console.print(f"total: {_totals(old)} -> {_totals(new)}", highlight=False)


def _cells(change: Change) -> tuple[str, ...]:
    bits = [f"{change.bits_per_weight(n):.2f}" for n in (change.old_bytes, change.new_bytes)]
    return (
        change.role, str(change.tensors), billions(change.parameters), f"{change.old} -> {change.new}",
        f"{gigabytes(change.old_bytes)} -> {gigabytes(change.new_bytes)}", " -> ".join(bits),
    )  # fmt: skip


def _totals(side: dict[str, Any]) -> str:
    return f"{gigabytes(side['total_bytes'])}, {side['bits_per_weight']:.3f} bits per weight"
