"""The report page: one HTML file with all that is known of a checkpoint's tensors, to sort, filter and look through.

It loads nothing: style, script, data and pictures are inside, and its content security policy allows only those.
"""

from __future__ import annotations

import base64
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convx.card import Facts, billions, gigabytes
from convx.checkpoint import RECORD, read_record
from convx.errors import WriteError
from convx.inspect import inspect_checkpoint
from convx.pictures import Picture, draw_into, recorded_pictures, svg_of
from convx.pictures.grids import tensor_errors

if TYPE_CHECKING:
    from markupsafe import Markup

COLUMNS = ("name", "role", "layer", "format", "bits", "elements", "bytes", "error", "by", "reason", "shape", "source")
"""What the page knows of a tensor, in the order in which its rows hold it."""


@dataclass(frozen=True)
class Figure:
    """A picture as the page holds it: two SVG files as data addresses."""

    name: str
    alt: str
    light: str
    dark: str


def write_report(path: Path, out: Path | None = None) -> Path:
    """Write the page about the checkpoint at `path`; gives the file's path."""
    path = path.resolve()
    out = out or path.parent / f"{path.name}-report.html"
    text = render_report(read_facts(path), find_figures(path))
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WriteError(f"{out}: cannot be written: {error.strerror}") from None
    return out


def read_facts(path: Path) -> dict[str, Any]:
    """The checkpoint's record; of one that convx did not make, what its files say."""
    if (path / RECORD).is_file():
        return read_record(path)
    return {"name": path.name, "siblings": [], **inspect_checkpoint(path)}


def find_figures(path: Path) -> list[Figure]:
    """Pictures drawn now, where matplotlib is; else those that lie in the folder."""
    record = read_facts(path)
    if find_spec("matplotlib") is None:
        known = recorded_pictures(record)
        return [_figure(path, p) for p in known if all((path / svg_of(f)).is_file() for f in (p.light, p.dark))]
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_into(Path(folder), record, path.parent, kinds=("svg",))
        return [_figure(Path(folder), picture) for picture in drawn]


def _figure(folder: Path, picture: Picture) -> Figure:
    return Figure(picture.name, picture.alt, _address(folder, picture.light), _address(folder, picture.dark))


def _address(folder: Path, png: str) -> str:
    content = (folder / svg_of(png)).read_bytes()
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"


def render_report(record: dict[str, Any], figures: list[Figure]) -> str:
    """The page's HTML. Every value is escaped, and the data cannot end the element that holds it."""
    import jinja2
    from markupsafe import Markup

    env = jinja2.Environment(
        loader=jinja2.PackageLoader("convx_templates", ""), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    env.filters.update(gb=gigabytes, billions=billions)
    style, script = _asset("report.css"), _asset("report.js")
    return env.get_template("report.html.j2").render(
        record=record, facts=Facts(record), properties=dict(_properties(record)), figures=figures, style=style,
        script=script, policy=Markup(_policy(style, script)), data=Markup(page_data(record)),
    )  # fmt: skip


def _asset(name: str) -> Markup:
    from markupsafe import Markup

    return Markup(files("convx_templates").joinpath(name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Only this style, this script and pictures that are inside the page."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _properties(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Architecture", str(record["architecture"])
    yield "Format", f"{record['format']}, recipe {record['recipe']}" if record["recipe"] else str(record["format"])
    yield "Parameters", f"{billions(record['parameters'])} ({record['parameters']:,})"
    yield "Bits per weight", f"{record['bits_per_weight']:.3f}"
    yield "Tensor bytes", f"{gigabytes(record['total_bytes'])} ({record['total_bytes']:,})"
    if record.get("source"):
        revision = record["source"].get("revision")
        yield "Source", f"{record['source']['name']}{f', revision {revision}' if revision else ''}"
    if record.get("versions"):
        yield "Made by", f"convx {record['versions']['convx']}"


def page_data(record: dict[str, Any]) -> str:
    """The tensors as JSON that is safe inside a script element: no `<`, `>` or `&` in it."""
    errors = {row["name"]: row["relative_error"] for row in tensor_errors(record)}
    rows = [[_plain(_value(tensor, column, errors)) for column in COLUMNS] for tensor in record["tensors"]]
    text = json.dumps({"columns": COLUMNS, "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _value(tensor: dict[str, Any], column: str, errors: dict[str, float]) -> Any:  # noqa: ANN401
    if column == "elements":
        return math.prod(tensor["shape"])
    if column == "error":
        return errors.get(tensor["name"])
    return tensor.get(column)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """JSON has no infinities and no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
