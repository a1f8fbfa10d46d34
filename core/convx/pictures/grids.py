"""Heat maps of roles by layers: stored bits, and error against the source."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convx.pictures.style import Theme, bits_color, bits_legend, ink_on, plain_spines, scale_color, short
from convx.roles import Role

ORDER = {role.value: at for at, role in enumerate(Role)}
NUMBERED = 16
"""Up to so many layers, cells are wide enough for their number."""

Place = tuple[str, int | None]
Weighted = tuple[float, int]
Color = tuple[float, ...]


@dataclass(frozen=True)
class Grid:
    """One value for each role and layer that has tensors; the layer None stands for all that is outside layers."""

    cells: dict[Place, float]

    @cached_property
    def roles(self) -> list[str]:
        return sorted({role for role, _ in self.cells}, key=lambda r: (ORDER.get(r, len(ORDER)), r))

    @cached_property
    def layers(self) -> list[int]:
        return sorted({layer for _, layer in self.cells if layer is not None})

    @property
    def outside(self) -> bool:
        return any(layer is None for _, layer in self.cells)

    def of(self, role: str) -> list[float]:
        """The role's values over the layers."""
        return [self.cells[role, layer] for layer in self.layers if (role, layer) in self.cells]


@dataclass(frozen=True)
class Paint:
    """How a value looks in its cell: the cell's colour, and its text where there is room."""

    color: Callable[[float], Color]
    number: Callable[[float], str]


def gather(values: Iterable[tuple[Place, Weighted]], power: int = 1) -> dict[Any, float]:
    """Means of values weighted by elements, by place; of their squares, and the root of it, with `power` 2."""
    sums: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for place, (value, weight) in values:
        sums[place][0] += weight * value**power
        sums[place][1] += weight
    return {place: (total / max(1.0, weight)) ** (1 / power) for place, (total, weight) in sums.items()}


class BitsGrid:
    """Bits by layer and role. Vectors, which nothing quantizes, are left out."""

    name = "bits-by-layer"

    def __init__(self, record: dict[str, Any]) -> None:
        matrices = [t for t in record["tensors"] if len(t["shape"]) > 1]
        places = (((t["role"], t["layer"]), (float(t["bits"]), math.prod(t["shape"]))) for t in matrices)
        self.grid = Grid(gather(places))
        self.bits = sorted({int(t["bits"]) for t in matrices})
        self.found = bool(self.grid.cells)

    @property
    def alt(self) -> str:
        rows = "; ".join(f"{role} {self._row(role)}" for role in self.grid.roles)
        return f"Heat map of stored bits by role and layer, {len(self.grid.layers)} layers: {rows}."

    def _row(self, role: str) -> str:
        counts = Counter(f"{value:.3g}" for value in self.grid.of(role))
        said = [f"{bits} in {count} layer{'s' * (count > 1)}" for bits, count in counts.most_common()]
        outside = self.grid.cells.get((role, None))
        return ", ".join(said + ([f"{outside:.3g} outside layers"] if outside is not None else []))

    def draw(self, figure: Any, theme: Theme) -> None:  # noqa: ANN401
        figure.set_size_inches(figure.get_figwidth(), 1.25 + 0.24 * len(self.grid.roles))
        figure.suptitle("Stored bits by role and layer", x=0.01, ha="left", fontsize=10)
        draw_grid(figure, self.grid, Paint(lambda bits: bits_color(bits, theme), "{:.3g}".format), theme)
        bits_legend(figure, self.bits, theme)


class ErrorGrid:
    """Relative error against the source by layer, and by layer and role; where it has been measured."""

    name = "error-by-layer"

    def __init__(self, record: dict[str, Any]) -> None:
        rows = tensor_errors(record)
        weighted = [((r["role"], r["layer"]), (float(r["relative_error"]), int(r["elements"]))) for r in rows]
        self.grid = Grid({place: e for place, e in gather(weighted, 2).items() if e > 0})
        by_layer = gather(((layer, w) for (_, layer), w in weighted), 2)
        self.line = {layer: by_layer[layer] for layer in self.grid.layers}
        self.top = max(self.grid.cells.values(), default=0.0)
        self.found = bool(self.grid.cells)

    @property
    def alt(self) -> str:
        worst = max(self.grid.cells, key=lambda place: self.grid.cells[place])
        where = "outside layers" if worst[1] is None else f"in layer {worst[1]}"
        most = f"the largest is {percent(self.top)}, {worst[0]} {where}"
        if not self.line:
            return f"Relative error of the weights by role: {most}."
        low, high = min(self.line.values()), max(self.line.values())
        span = f"from {percent(low)} to {percent(high)} over {len(self.line)} layers"
        return f"Relative error of the weights by layer and role: {span}; {most}."

    def draw(self, figure: Any, theme: Theme) -> None:  # noqa: ANN401
        tall = 1.3 if self.line else 0
        figure.set_size_inches(figure.get_figwidth(), 1.2 + tall + 0.24 * len(self.grid.roles))
        figure.suptitle("Relative error of the weights", x=0.01, ha="left", fontsize=10)
        paint = Paint(lambda error: scale_color(error / self.top, theme), lambda error: f"{100 * error:.1f}")
        main = draw_grid(figure, self.grid, paint, theme, tall)
        if self.line:
            self._draw_line(main, theme)
        self._draw_scale(figure, theme)

    def _draw_line(self, axes: tuple[Any, Any], theme: Theme) -> None:
        top, _ = axes
        top.plot(list(self.line), list(self.line.values()), color=theme.accent, lw=1.5, marker="o", ms=2.5)
        top.set_ylim(0, 1.15 * max(self.line.values()))
        top.yaxis.set_major_formatter(lambda value, _: percent(value))
        top.locator_params(axis="y", nbins=4)
        top.grid(axis="y", color=theme.line, lw=0.6)
        top.yaxis.tick_right()
        top.set_title("all roles, weighted by elements", fontsize=8, color=theme.muted)
        plain_spines(top, "bottom")

    def _draw_scale(self, figure: Any, theme: Theme) -> None:  # noqa: ANN401
        from matplotlib.patches import Patch

        shares = (1 / 3, 2 / 3, 1.0)
        patches = [Patch(facecolor=scale_color(s, theme), label=percent(s * self.top)) for s in shares]
        patches.append(Patch(facecolor=theme.empty, edgecolor=theme.muted, lw=0.6, label="exact or none"))
        figure.legend(handles=patches, loc="outside upper right", ncols=len(patches), frameon=False, handlelength=1.2)


def tensor_errors(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the latest comparison with the source; none where that was not measured."""
    entries = (record.get("measurements") or {}).get("tensors") or []
    return list(entries[-1]["values"]["tensors"]) if entries else []


def percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def draw_grid(figure: Any, grid: Grid, paint: Paint, theme: Theme, tall: float = 0) -> tuple[Any, Any]:  # noqa: ANN401
    """Draw the grid, what is outside layers apart from it on the left. `tall` inches above it are for a line.

    Returns the axes of the line (None when it has none), and of the layers.
    """
    widths = [1.0, 13.0] if grid.outside and grid.layers else [1.0]
    heights = [tall, 0.24 * len(grid.roles)] if tall else [1.0]
    axes = figure.subplots(
        len(heights), len(widths), squeeze=False, width_ratios=widths, height_ratios=heights, sharex="col"
    )
    if grid.outside:
        _draw_cells(axes[-1][0], grid, [None], paint, theme)
        axes[-1][0].set_xlabel("outside", fontsize=8)
        axes[-1][0].tick_params(axis="x", labelbottom=False)
    if grid.layers:
        _draw_cells(axes[-1][-1], grid, grid.layers, paint, theme)
        axes[-1][-1].set_xlabel("layer")
        axes[-1][-1].set_xticks(_ticks(grid.layers))
    _label_roles(axes[-1], grid)
    if tall and len(widths) > 1:
        axes[0][0].set_visible(False)
    return (axes[0][-1] if tall else None), axes[-1][-1]


def _ticks(layers: Sequence[int]) -> list[int]:
    step = next(s for s in (1, 2, 4, 5, 8, 10, 20, 50, 1000) if len(layers) / s <= 16)
    return list(range(layers[0], layers[-1] + 1, step))


def _label_roles(row: Any, grid: Grid) -> None:  # noqa: ANN401
    for at, axes in enumerate(row):
        axes.set_yticks(range(len(grid.roles)), [short(r) for r in grid.roles] if at == 0 else [])
        axes.set_ylim(len(grid.roles) - 0.5, -0.5)


def _draw_cells(axes: Any, grid: Grid, layers: Sequence[int | None], paint: Paint, theme: Theme) -> None:  # noqa: ANN401
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    cells = [(role, layer) for role in grid.roles for layer in layers if (role, layer) in grid.cells]
    corners = [(grid.roles.index(role), 0 if layer is None else layer) for role, layer in cells]
    colors = [paint.color(grid.cells[cell]) for cell in cells]
    patches = [Rectangle((x - 0.5, y - 0.5), 1, 1) for y, x in corners]
    axes.add_collection(PatchCollection(patches, facecolors=colors, edgecolors=theme.background, linewidths=0.6))
    first, last = layers[0] or 0, layers[-1] or 0
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.set_facecolor(theme.empty)
    plain_spines(axes)
    axes.tick_params(length=0)
    if len(layers) <= NUMBERED:
        for (y, x), cell, shade in zip(corners, cells, colors, strict=True):
            text = axes.text(x, y, paint.number(grid.cells[cell]), fontsize=7.5, color=ink_on(shade))
            text.set(ha="center", va="center_baseline")
