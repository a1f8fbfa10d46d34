"""A comparison as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convx.card import escape_markdown, gigabytes

Column = tuple[str, Callable[[dict[str, Any]], str | None]]
SIGNIFICANT = 0.05
ENOUGH_WINDOWS = 8
"""With fewer, a normal law for the mean of windows promises too much, and no verdict is given."""


def _number(
    key: str, spec: str, error: str | None = None, scale: float = 1.0
) -> Callable[[dict[str, Any]], str | None]:
    def cell(row: dict[str, Any]) -> str | None:
        if row[key] is None:
            return None
        shown = format(row[key] * scale, spec)
        return f"{shown} ± {format(row[error] * scale, spec)}" if error and row[error] is not None else shown

    return cell


COLUMNS: tuple[Column, ...] = (
    ("", lambda row: ("★" if row["pareto"] else "") if row["pareto"] is not None else None),
    ("name", lambda row: escape_markdown(row["name"])),
    ("format", lambda row: escape_markdown(" ".join(filter(None, (row["format"], row["recipe"]))))),
    ("bits per weight", _number("bits_per_weight", ".3f")),
    ("size", lambda row: gigabytes(row["bytes"])),
    ("KL", _number("kl", ".5f", "kl_error")),
    ("KL p95", _number("kl_p95", ".4f")),
    ("same first token, %", _number("top1_agreement", ".2f", scale=100)),
    ("perplexity", _number("perplexity", ".3f", "perplexity_error")),
    ("prefill, tokens/s", _number("prefill", ".0f")),
    ("generation, tokens/s", _number("generation", ".1f")),
    ("peak memory", lambda row: gigabytes(row["peak_memory_bytes"]) if row["peak_memory_bytes"] else None),
    ("load, s", _number("load_seconds", ".2f")),
)


def to_markdown(comparison: dict[str, Any]) -> str:
    """Tables of a comparison; a column that no checkpoint has anything for is left out."""
    parts = [_table(comparison["rows"])]
    if comparison["reference"]:
        parts.append(f"Perplexity of the reference on the same text: {comparison['reference']['perplexity']:.3f}.")
    if any(row["pareto"] for row in comparison["rows"]):
        parts.append("★ no other here is both as small and as close to the reference.")
    if any(row["kl_method"] not in {None, "exact"} for row in comparison["rows"]):
        methods = sorted({row["kl_method"] for row in comparison["rows"] if row["kl_method"]})
        parts.append(f"KL by: {', '.join(methods)}. With a merged tail it is a lower bound.")
    if comparison["pairs"]:
        parts.append(_pairs(comparison["pairs"]))
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = {title: [cell(row) for row in rows] for title, cell in COLUMNS}
    kept = [title for title in cells if any(value is not None for value in cells[title])]
    lines = [_line(kept), _line(["---"] * len(kept))]
    lines += [_line([cells[title][n] or "" for title in kept]) for n in range(len(rows))]
    return "\n".join(lines)


def _pairs(pairs: Sequence[dict[str, Any]]) -> str:
    titles = ["a", "b", "KL of b - a", "z", "p", "loss of b - a, nats", "z", "p", "closer"]
    lines = [_line(titles), _line(["---"] * len(titles))]
    for pair in pairs:
        kl, nll = pair["kl"], pair["nll"]
        names = [escape_markdown(pair[side]) for side in ("a", "b")]
        lines.append(_line([*names, *_test(kl), *_test(nll), _verdict(pair, kl)]))
    note = f"Paired over {pairs[0]['kl']['windows']} windows; mean ± standard error; p two-sided."
    return "\n".join([*lines, "", note])


def _test(test: dict[str, Any]) -> list[str]:
    shown = f"{test['mean']:+.5f} ± {test['standard_error']:.5f}"
    return [shown, "" if test["z"] is None else f"{test['z']:+.1f}", "" if test["p"] is None else f"{test['p']:.2g}"]


def _verdict(pair: dict[str, Any], test: dict[str, Any]) -> str:
    if test["windows"] < ENOUGH_WINDOWS or test["p"] is None or test["p"] >= SIGNIFICANT:
        return "no telling"
    return escape_markdown(pair["b"] if test["mean"] < 0 else pair["a"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
