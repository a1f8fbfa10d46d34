"""A checkpoint among its siblings: size against divergence from the source, where both have been measured alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convx.checkpoint import read_record
from convx.errors import ConvxError
from convx.pictures.style import Theme, plain_spines, short


@dataclass(frozen=True)
class Point:
    name: str
    gigabytes: float
    kl: float
    error: float
    own: bool


class Pareto:
    name = "siblings"

    def __init__(self, record: dict[str, Any], beside: Path | None) -> None:
        self.points = sorted(_points(record, beside), key=lambda p: (p.gigabytes, p.kl))
        self.found = len(self.points) > 1

    @property
    def front(self) -> list[Point]:
        """Points that no other is both smaller and nearer than."""
        best: list[Point] = []
        for point in self.points:
            if not best or point.kl < best[-1].kl:
                best.append(point)
        return best

    @property
    def alt(self) -> str:
        said = "; ".join(f"{p.name} {_amount(p.gigabytes)}, KL {p.kl:.4g}" for p in self.points)
        return f"Size against KL divergence from the source, for {len(self.points)} siblings: {said}."

    def draw(self, figure: Any, theme: Theme) -> None:  # noqa: ANN401
        figure.set_size_inches(figure.get_figwidth(), 3.6)
        axes = figure.subplots()
        unit, word = (1, "GB") if self.points[-1].gigabytes >= 0.1 else (1e3, "MB")
        front = self.front
        axes.plot([unit * p.gigabytes for p in front], [p.kl for p in front], color=theme.muted, lw=1, ls="--", zorder=1)
        for point in self.points:
            _draw_point(axes, point, unit, theme, point in front)
        axes.set_title("Siblings: size against divergence; lower left is better")
        axes.set_xlabel(f"size of the tensors, {word}")
        axes.set_ylabel("mean KL from the source, nats")
        if all(p.kl > 0 for p in self.points):
            axes.set_yscale("log")
        axes.margins(x=0.12, y=0.15)
        axes.grid(color=theme.line, lw=0.6)
        plain_spines(axes, "left", "bottom")
        _place_labels(figure, axes, _label_names(self.points), unit, theme)


def _points(record: dict[str, Any], beside: Path | None) -> Iterator[Point]:
    own = _divergence(record)
    if own is None:
        return
    yield _point(record, own, True)
    for sibling in _sibling_records(record, beside):
        entry = _divergence(sibling, _settings(own))
        if entry is not None:
            yield _point(sibling, entry, False)


def _sibling_records(record: dict[str, Any], beside: Path | None) -> Iterator[dict[str, Any]]:
    """Records of the siblings that lie beside the checkpoint under their own names."""
    for sibling in record["siblings"] if beside else ():
        name = str(sibling["name"])
        if beside is None or name != Path(name).name or name.startswith("."):
            continue
        try:
            found = read_record(beside / name)
        except ConvxError:
            continue
        if found.get("name") == name:
            yield found


def _divergence(record: dict[str, Any], like: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The latest divergence, or the latest with settings like others."""
    entries = (record.get("measurements") or {}).get("kl") or []
    fitting = (e for e in reversed(entries) if like is None or _settings(e) == like)
    return next(fitting, None)


def _settings(entry: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two divergences to be compared: all but the batch."""
    return {k: v for k, v in entry["settings"].items() if k != "batch"}


def _point(record: dict[str, Any], entry: dict[str, Any], own: bool) -> Point:
    values = entry["values"]
    return Point(
        record["name"], record["total_bytes"] / 1e9, float(values["mean"]), float(values["standard_error"]), own
    )


def _amount(gigabytes: float) -> str:
    return f"{gigabytes:.2f} GB" if gigabytes >= 0.1 else f"{1e3 * gigabytes:.2f} MB"


def _draw_point(axes: Any, point: Point, unit: float, theme: Theme, best: bool) -> None:  # noqa: ANN401
    color = theme.accent if best else theme.muted
    axes.errorbar(
        unit * point.gigabytes, point.kl, yerr=point.error, fmt="D" if point.own else "o", ms=8 if point.own else 6,
        color=color, ecolor=color, elinewidth=1, capsize=2, zorder=2,
    )  # fmt: skip


def _label_names(points: list[Point]) -> dict[Point, str]:
    """Names without the words that all begin with."""
    shared = os.path.commonprefix([p.name for p in points])
    start = shared.rfind("-") + 1
    return {p: short(p.name[start:], 24) + (" (this)" if p.own else "") for p in points}


def _place_labels(figure: Any, axes: Any, names: dict[Point, str], unit: float, theme: Theme) -> None:  # noqa: ANN401
    """Put each label beside its point, at the first place where it covers no point and no other label."""
    figure.canvas.draw()
    to_pixels = axes.transData.transform
    taken = [_around(*to_pixels((unit * p.gigabytes, p.kl))) for p in names]
    for point, name in names.items():
        text = axes.annotate(
            name, (unit * point.gigabytes, point.kl), xytext=(0, 0), textcoords="offset points", fontsize=8.5,
            color=theme.ink, weight="bold" if point.own else "normal", zorder=3,
        )  # fmt: skip
        taken.append(_settle(text, axes.get_window_extent(), taken))


def _around(x: float, y: float, radius: float = 6) -> Any:  # noqa: ANN401
    from matplotlib.transforms import Bbox

    return Bbox([[x - radius, y - radius], [x + radius, y + radius]])


def _settle(text: Any, frame: Any, taken: list[Any]) -> Any:  # noqa: ANN401
    for step in range(6):
        for across in ("left", "right", "center"):
            for up in (1, -1):
                text.set(ha=across, va="bottom" if up > 0 else "top")
                text.set_position(({"left": 6, "right": -6, "center": 0}[across], up * (3 + 9 * step)))
                box = text.get_window_extent()
                inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
                if inside and not any(box.overlaps(other) for other in taken):
                    return box
    return text.get_window_extent()
