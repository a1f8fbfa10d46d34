"""A comparison as a picture: size across, divergence up, the best of each size joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convx.errors import MeasureError

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
    axes.plot([r["bytes"] / unit for r in best], [r["kl"] for r in best], color=BEST, lw=1.2, alpha=0.6, zorder=1)
    for row in rows:
        color = BEST if row["pareto"] else OTHER
        x, y = row["bytes"] / unit, row["kl"]
        axes.errorbar(x, y, yerr=row["kl_error"], fmt="o", ms=6, color=color, capsize=2, lw=1, zorder=2)
        axes.annotate(row["name"], (x, y), xytext=(7, 5), textcoords="offset points", fontsize=8.5, color=INK)
    if all(row["kl"] > 0 for row in rows):
        axes.set_yscale("log")
    axes.margins(x=0.16, y=0.15)
    axes.set_xlabel(f"size of the tensors, {name}", color=INK)
    axes.set_ylabel("KL from the reference, nats", color=INK)
    axes.set_title("Smaller and lower is better; bars are standard errors", fontsize=9.5, color=MUTED, loc="left")
    axes.grid(True, which="both", color="#e8e8e8", lw=0.6, zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
