"""A comparison as a picture: size across, divergence up, the best of each size joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convx.errors import MeasureError

LINE = 15.0
"""Height of a label, in pixels of a figure of 100 dots an inch."""
INK, MUTED, BEST, OTHER = "#1a1a1a", "#8a8a8a", "#0b6bcb", "#9aa5b1"


def draw(comparison: dict[str, Any], path: Path) -> None:
    """Write an SVG or PNG, by the name's ending. Raises MeasureError without matplotlib, or with nothing to draw."""
    rows = [row for row in comparison["rows"] if row["kl"] is not None]
    if not rows:
        raise MeasureError("no divergence to draw", hint="compare with --reference SOURCE and --text FILE")
    if path.suffix.lower() not in {".svg", ".png"}:
        raise MeasureError(f"{path}: a picture is .svg or .png")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MeasureError("pictures need matplotlib", hint="pip install 'convx[plot]'") from None
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    _plot(figure.subplots(), rows)
    figure.savefig(path, dpi=160, facecolor="white", metadata=_no_date(path))


def _no_date(path: Path) -> dict[str, Any]:
    """Equal comparisons give equal files."""
    return {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}


def _plot(axes: Any, rows: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401
    unit, name = (1e9, "GB") if max(row["bytes"] for row in rows) >= 1e9 else (1e6, "MB")
    best = sorted((row for row in rows if row["pareto"]), key=lambda row: row["bytes"])
    axes.plot([r["bytes"] / unit for r in best], [r["kl"] for r in best], color=BEST, lw=1.2, alpha=0.5, zorder=1)
    for row in rows:
        color = BEST if row["pareto"] else OTHER
        axes.errorbar(
            row["bytes"] / unit, row["kl"], yerr=row["kl_error"], fmt="o", ms=6, color=color, capsize=2, lw=1, zorder=2
        )
    _scale(axes, rows)
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel(f"size of the tensors, {name}", color=INK)
    axes.set_ylabel("KL from the reference, nats", color=INK)
    axes.set_title("Smaller and lower is better; bars are standard errors", fontsize=9.5, color=MUTED, loc="left")
    axes.grid(True, which="both", color="#e8e8e8", lw=0.6, zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _label(axes, rows, unit)


def _scale(axes: Any, rows: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401
    """A logarithmic scale with plain numbers, unless a divergence is 0."""
    from matplotlib.ticker import FuncFormatter

    if any(row["kl"] <= 0 for row in rows):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.1g}" if f"{value:e}"[0] in "25" else ""))


def _label(axes: Any, rows: Sequence[dict[str, Any]], unit: float) -> None:  # noqa: ANN401
    """Names beside the points: to the left in the right half, and moved apart where they would touch."""
    axes.figure.canvas.draw()
    at = {row["name"]: axes.transData.transform((row["bytes"] / unit, row["kl"])) for row in rows}
    middle = axes.bbox.x0 + axes.bbox.width / 2
    placed: list[tuple[bool, float]] = []
    for row in sorted(rows, key=lambda row: row["kl"]):
        x, y = at[row["name"]]
        left, wanted = x > middle, y
        while any(side == left and abs(wanted - other) < LINE for side, other in placed):
            wanted += LINE / 2
        placed.append((left, wanted))
        shift = (wanted - y) * 72 / axes.figure.dpi
        axes.annotate(
            row["name"], (row["bytes"] / unit, row["kl"]), xytext=(-9 if left else 9, shift), fontsize=8.5, color=INK,
            textcoords="offset points", ha="right" if left else "left", va="center",
            bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "lw": 0},
        )  # fmt: skip
