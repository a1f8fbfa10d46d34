"""Pictures of a checkpoint, from its record: bits, size and error by role and layer, and its place among siblings.

Each is drawn four times into `images/`: SVG and PNG, for light and for dark pages. Equal records give equal files.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convx.checkpoint import read_record, write_record
from convx.shards import hash_file

IMAGES = "images"


@dataclass(frozen=True)
class Picture:
    """A drawn picture: what it shows in words, and its PNG files for light and dark pages (an SVG beside each)."""

    name: str
    alt: str
    light: str
    dark: str


def draw_pictures(folder: Path) -> list[Picture]:
    """Draw into `folder/images` every picture that the record of the checkpoint at `folder` has figures for."""
    return draw_into(folder, read_record(folder), folder.resolve().parent)


def draw_into(
    folder: Path, record: dict[str, Any], beside: Path | None = None, kinds: Sequence[str] = ("png", "svg")
) -> list[Picture]:
    """Draw pictures of `record` into `folder/images`; records of siblings are looked for in the folder `beside`.

    Raises ConvxError when matplotlib is not installed.
    """
    from convx.pictures.style import THEMES, load_matplotlib, save

    load_matplotlib()
    drawn = []
    for chart in _charts(record, beside):
        (folder / IMAGES).mkdir(exist_ok=True)
        files = [f"{IMAGES}/{chart.name}-{theme.name}" for theme in THEMES]
        for theme, file in zip(THEMES, files, strict=True):
            save(chart.draw, theme, folder / file, kinds)
        drawn.append(Picture(chart.name, chart.alt, f"{files[0]}.png", f"{files[1]}.png"))
    return drawn


def _charts(record: dict[str, Any], beside: Path | None) -> Iterator[Any]:
    from convx.pictures.grids import BitsGrid, ErrorGrid
    from convx.pictures.pareto import Pareto
    from convx.pictures.sizes import Sizes

    for chart in (BitsGrid(record), Sizes(record), ErrorGrid(record), Pareto(record, beside)):
        if chart.found:
            yield chart


def record_pictures(folder: Path, pictures: list[Picture]) -> None:
    """Name pictures in `convx.json`, with the checksum of each file; files of earlier ones that are no more go."""
    record = read_record(folder)
    fresh = set(_files(pictures))
    for name in set(_files(recorded_pictures(record))) - fresh:
        record["files"].pop(name, None)
        (folder / name).unlink(missing_ok=True)
    for name in sorted(fresh):
        record["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": hash_file(folder / name)}
    record["pictures"] = [asdict(picture) for picture in pictures]
    write_record(folder, record)


def recorded_pictures(record: dict[str, Any]) -> list[Picture]:
    """The pictures that a record names. One whose files are not in `images/` is no picture of ours."""
    fields = ("name", "alt", "light", "dark")
    said = (Picture(*(str(entry[f]) for f in fields)) for entry in record.get("pictures") or ())
    return [p for p in said if all(_is_image(file) for file in (p.light, p.dark))]


def _is_image(name: str) -> bool:
    folder, _, file = name.partition("/")
    return folder == IMAGES and file.endswith(".png") and "/" not in file and "\\" not in file


def _files(pictures: list[Picture]) -> Iterator[str]:
    for picture in pictures:
        for png in (picture.light, picture.dark):
            yield png
            yield svg_of(png)


def svg_of(png: str) -> str:
    """The SVG beside a PNG."""
    return png.removesuffix(".png") + ".svg"


def picture_markdown(pictures: list[Picture]) -> str:
    """HTML that Markdown pages show as they are: the dark file on dark pages, else the light one."""
    return "\n\n".join(_picture_html(picture) for picture in pictures)


def _picture_html(picture: Picture) -> str:
    alt = html.escape(" ".join(picture.alt.split()))
    return (
        f'<picture>\n<source media="(prefers-color-scheme: dark)" srcset="{html.escape(picture.dark)}">\n'
        f'<img src="{html.escape(picture.light)}" alt="{alt}" width="700">\n</picture>'
    )
