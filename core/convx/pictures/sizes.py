"""Size by role: one bar a role, its parts by stored bits."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from convx.pictures.style import Theme, bits_color, bits_legend, plain_spines, short

SHOWN = 14
"""Roles with a bar of their own; the smallest share one."""


class Sizes:
    name = "size-by-role"

    def __init__(self, record: dict[str, Any]) -> None:
        roles: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for tensor in record["tensors"]:
            roles[tensor["role"]][int(tensor["bits"])] += tensor["bytes"]
        self.bars = _gather_small(sorted(roles.items(), key=lambda item: (-sum(item[1].values()), item[0])))
        self.bits = sorted({b for _, parts in self.bars for b in parts})
        self.total = sum(sum(parts.values()) for _, parts in self.bars)
        self.found = self.total > 0

    @property
    def alt(self) -> str:
        said = "; ".join(f"{role} {self._said(sum(parts.values()))}" for role, parts in self.bars)
        return f"Bar chart of size by role, {_size(self.total)} in all: {said}."

    def _said(self, nbytes: int) -> str:
        return f"{_size(nbytes)}, {100 * nbytes / self.total:.1f} %"

    def draw(self, figure: Any, theme: Theme) -> None:  # noqa: ANN401
        figure.set_size_inches(figure.get_figwidth(), 0.9 + 0.25 * len(self.bars))
        figure.suptitle("Size by role", x=0.01, ha="left", fontsize=10)
        axes = figure.subplots()
        for at, (_, parts) in enumerate(self.bars):
            self._draw_bar(axes, at, parts, theme)
        axes.set_yticks(range(len(self.bars)), [short(role) for role, _ in self.bars])
        axes.set_ylim(len(self.bars) - 0.4, -0.6)
        axes.set_xlim(0, 1.3 * max(sum(parts.values()) for _, parts in self.bars))
        axes.set_xticks([])
        axes.tick_params(length=0)
        plain_spines(axes, "left")
        bits_legend(figure, self.bits, theme)

    def _draw_bar(self, axes: Any, at: int, parts: dict[int, int], theme: Theme) -> None:  # noqa: ANN401
        left = 0
        for bits, nbytes in sorted(parts.items()):
            axes.barh(at, nbytes, left=left, height=0.72, color=bits_color(bits, theme))
            left += nbytes
        axes.annotate(
            self._said(left), (left, at), xytext=(4, 0), textcoords="offset points", va="center_baseline", fontsize=8.5,
            color=theme.muted,
        )  # fmt: skip


def _gather_small(bars: list[tuple[str, dict[int, int]]]) -> list[tuple[str, dict[int, int]]]:
    if len(bars) <= SHOWN:
        return bars
    rest: dict[int, int] = defaultdict(int)
    for _, parts in bars[SHOWN - 1 :]:
        for bits, nbytes in parts.items():
            rest[bits] += nbytes
    return [*bars[: SHOWN - 1], (f"{len(bars) - SHOWN + 1} other roles", rest)]


def _size(nbytes: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.2f} {name}"
    return f"{nbytes / 1e3:.1f} kB"
