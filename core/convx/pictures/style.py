"""How pictures look: two themes, one colour scale for bits, and files that depend on nothing but the figures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convx.errors import ConvxError

WIDTH = 7.0
"""Inches: 700 pixels at the card's width, where 9 points are 12.5 pixels."""


@dataclass(frozen=True)
class Theme:
    """Colours of a page. `span` is the part of the colour scale that stands out from the background."""

    name: str
    background: str
    empty: str
    ink: str
    muted: str
    line: str
    accent: str
    span: tuple[float, float]


LIGHT = Theme("light", "#ffffff", "#eef0f2", "#1f2328", "#59636e", "#d1d9e0", "#0550ae", (0.0, 0.97))
DARK = Theme("dark", "#0d1117", "#161b22", "#e6edf3", "#9198a1", "#30363d", "#79c0ff", (0.12, 1.0))
THEMES = (LIGHT, DARK)

Draw = Callable[[Any, Theme], None]


METADATA: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
"""What matplotlib is told not to write: a date or a version would make equal pictures differ."""


def save(draw: Draw, theme: Theme, stem: Path, kinds: Sequence[str] = ("png", "svg")) -> None:
    """Draw a figure in a theme, and write it as `stem`.png and `stem`.svg."""
    matplotlib = load_matplotlib()
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_settings(theme)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=(WIDTH, 3), layout="constrained")
        draw(figure, theme)
        for kind in kinds:
            figure.savefig(stem.with_name(f"{stem.name}.{kind}"), dpi=200, metadata=METADATA[kind])


def load_matplotlib() -> Any:  # noqa: ANN401
    """The matplotlib package. Raises ConvxError when it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise ConvxError("pictures need matplotlib", hint="pip install 'convx[plot]'") from None
    return matplotlib


def _settings(theme: Theme) -> dict[str, Any]:
    ink = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor", "axes.titlecolor")
    return {
        **dict.fromkeys(ink, theme.ink),
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "axes.edgecolor": theme.line,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "font.family": ["DejaVu Sans"],
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "text.parse_math": False,
        "svg.fonttype": "path",
        "svg.hashsalt": "convx",
    }


def scale_color(share: float, theme: Theme) -> tuple[float, ...]:
    """The colour at `share` (0 to 1) of the scale: viridis, whose lightness alone tells its values apart."""
    from matplotlib import colormaps

    low, high = theme.span
    color: tuple[float, ...] = colormaps["viridis"](low + (high - low) * min(1.0, max(0.0, share)))
    return color


def bits_color(bits: float, theme: Theme) -> tuple[float, ...]:
    """2 bits at the dark end of the scale, 16 and more at the light one, by the logarithm."""
    return scale_color(math.log2(max(2.0, bits) / 2) / 3, theme)


def ink_on(color: tuple[float, ...]) -> str:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = color[:3]
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#ffffff"


def bits_legend(figure: Any, bits: list[int], theme: Theme) -> None:  # noqa: ANN401
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=bits_color(b, theme), label=f"{b} bits") for b in bits]
    figure.legend(handles=patches, loc="outside upper right", ncols=len(patches), frameon=False, handlelength=1.2)


def plain_spines(axes: Any, *shown: str) -> None:  # noqa: ANN401
    """Leave only the named sides of the frame."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in shown)


def short(text: str, length: int = 28) -> str:
    """One line of text that fits beside an axis."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
