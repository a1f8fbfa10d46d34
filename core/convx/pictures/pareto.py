"""A checkpoint among its siblings: size against divergence from the source, where both have been measured alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
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
        figure.set_size_inches(figure.get_figwidth(), max(3.4, 1.2 + 0.24 * len(self.points)))
        figure.suptitle("Siblings: size against divergence; lower left is better", x=0.01, ha="left", fontsize=10)
        axes = figure.subplots()
        unit, word = (1.0, "GB") if self.points[-1].gigabytes >= 0.1 else (1e3, "MB")
        front = [(unit * p.gigabytes, p.kl) for p in self.front]
        axes.plot(*zip(*front, strict=True), color=theme.muted, lw=1, ls="--", zorder=1, label="best for their size")
        for point, name, look in zip(self.points, _short_names(self.points), _looks(theme), strict=False):
            _draw_point(axes, point, name, unit, theme, look)
        self._scale(axes)
        axes.set_xlabel(f"size of the tensors, {word}")
        axes.set_ylabel("mean KL from the source, nats")
        axes.margins(x=0.08, y=0.12)
        axes.grid(color=theme.line, lw=0.6)
        axes.tick_params(which="both", length=0)
        plain_spines(axes, "left", "bottom")
        figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)

    def _scale(self, axes: Any) -> None:  # noqa: ANN401
        """A logarithmic axis where it can be one, with more than its powers of ten labelled where these are few."""
        low, high = min(p.kl for p in self.points), max(p.kl for p in self.points)
        if low > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")


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


def _looks(theme: Theme) -> Iterator[tuple[str, str]]:
    """Colour and marker for each point; no two alike before the ninth, and told apart by the marker alone."""
    colors = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", theme.muted, theme.ink)
    return cycle(zip(colors, "os^DvPX*", strict=True))


def _draw_point(axes: Any, point: Point, name: str, unit: float, theme: Theme, look: tuple[str, str]) -> None:  # noqa: ANN401
    color, marker = look
    axes.errorbar(
        unit * point.gigabytes, point.kl, yerr=point.error, fmt=marker, ms=9 if point.own else 6, color=color,
        mec=theme.ink if point.own else theme.background, mew=1.4 if point.own else 0.6, elinewidth=1,
        zorder=3 if point.own else 2, label=name,
    )  # fmt: skip


def _short_names(points: list[Point]) -> list[str]:
    """Names without the words that all begin with."""
    words = [p.name.split("-") for p in points]
    same = next((at for at, column in enumerate(zip(*words, strict=False)) if len(set(column)) > 1), 0)
    tails = ["-".join(w[same:]) for w in words]
    return [short(tail, 24) + (" (this)" if p.own else "") for tail, p in zip(tails, points, strict=True)]
