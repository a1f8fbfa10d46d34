"""A reference's predictions in a file, made once and compared with many models.

The file is a safetensors file: `tokens` U32 (windows, length), and either `logprobs` F32 (windows, positions,
vocabulary), or the likeliest k: `indices` U32 and `logprobs` F32 (windows, positions, k), `tail` F32 (windows,
positions). Its metadata has one entry, `convx`: JSON of what it was made from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convx.dtypes import F32, NAMES, U32, DType
from convx.errors import MeasureError
from convx.measure.data import Array, Windows
from convx.measure.distributions import Distribution, Top, Whole, compress, normalized
from convx.measure.model import TextModel
from convx.measure.steps import Steps
from convx.source import read_header
from convx.storage import StoredFile

TOP_K = 256


@dataclass(frozen=True)
class SavedLogits:
    """Predictions read from a file, a chunk at a time; nothing is held in memory."""

    path: Path
    arrays: dict[str, Array]
    about: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.about["reference"])

    @property
    def method(self) -> str:
        return str(self.about["method"])

    def require(self, windows: Windows) -> None:
        """Raises MeasureError when the file was not made from these windows."""
        if not np.array_equal(self.arrays["tokens"], windows.tokens):
            raise MeasureError(
                f"{self.path}: was made from other windows: {self.about['data']}, "
                f"{self.about['windows']} x {self.about['length']}",
                hint="give the same --text, --windows, --length and --bos as when it was saved",
            )

    def chunks(self, first: int, tokens: Any, step: int) -> Iterator[Distribution]:  # noqa: ANN401
        import mlx.core as mx

        rows, length = slice(first, first + tokens.shape[0]), tokens.shape[1]
        for start in range(0, length, step):
            part = {k: mx.array(v[rows, start : start + step]) for k, v in self.arrays.items() if k != "tokens"}
            yield Top(part["indices"], part["logprobs"], part["tail"]) if "tail" in part else Whole(part["logprobs"])


def open_logits(path: str | Path) -> SavedLogits:
    """Open a file that `save_logits` wrote. Raises MeasureError when it is another file."""
    path = Path(path)
    if not path.is_file():
        raise MeasureError(f"{path}: no such file", hint="make it with --save-logits FILE and --reference")
    file = StoredFile(path)
    raw, found = read_header(file)
    about = (json.loads(raw).get("__metadata__") or {}).get("convx")
    file.close()
    if about is None:
        raise MeasureError(f"{path}: holds no reference logits", hint="make it with --save-logits FILE")
    arrays: dict[str, Array] = {t.name: np.memmap(path, t.dtype, "r", t.offset, t.shape) for t in found}
    return SavedLogits(path, arrays, json.loads(about))


def save_logits(
    path: str | Path, model: TextModel, windows: Windows, *, name: str | None = None, top_k: int | None = TOP_K,
    batch: int = 1, steps: Steps | None = None,
) -> SavedLogits:  # fmt: skip
    """Write what `model` predicts for `windows`: its `top_k` likeliest tokens, or every one for None."""
    import mlx.core as mx

    path, steps = Path(path), steps or Steps()
    if top_k is not None and top_k >= model.vocabulary:
        top_k = None
    partial = path.with_name(f".{path.name}.partial")
    arrays = _create(partial, _layout(windows, model.vocabulary, top_k), _about(model, windows, name, top_k))
    arrays["tokens"][:] = windows.tokens
    steps.begin("reference", windows.count)
    for first, tokens in windows.batches(batch):
        rows = slice(first, first + len(tokens))
        step = model.step(len(tokens), windows.positions)
        for start, logits in model.chunks(mx.array(tokens[:, :-1]), step):
            columns = slice(start, start + logits.shape[1])
            for part, value in _parts(logits, top_k).items():
                arrays[part][rows, columns] = np.array(value)
        steps.advance(len(tokens))
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    partial.replace(path)
    return open_logits(path)


def _parts(logits: Any, top_k: int | None) -> dict[str, Any]:  # noqa: ANN401
    if top_k is None:
        return {"logprobs": normalized(logits)}
    top = compress(logits, top_k)
    return {"indices": top.indices, "logprobs": top.logprobs, "tail": top.tail}


def _about(model: TextModel, windows: Windows, name: str | None, top_k: int | None) -> dict[str, Any]:
    method = "exact" if top_k is None else f"top {top_k} and tail"
    name = name or model.path.resolve().name
    return {"reference": name, "method": method, "compute": model.compute, **windows.settings}


def _layout(windows: Windows, vocabulary: int, top_k: int | None) -> dict[str, tuple[DType, tuple[int, ...]]]:
    shape = (windows.count, windows.positions)
    layout: dict[str, tuple[DType, tuple[int, ...]]] = {"tokens": (U32, windows.tokens.shape)}
    if top_k is None:
        return {**layout, "logprobs": (F32, (*shape, vocabulary))}
    return {**layout, "indices": (U32, (*shape, top_k)), "logprobs": (F32, (*shape, top_k)), "tail": (F32, shape)}


def _create(path: Path, layout: dict[str, tuple[DType, tuple[int, ...]]], about: dict[str, Any]) -> dict[str, Array]:
    """An empty safetensors file of these arrays, and the arrays in it."""
    header: dict[str, Any] = {"__metadata__": {"convx": json.dumps(about)}}
    at = 0
    for name, (dtype, shape) in layout.items():
        nbytes = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + at)
    base = 8 + len(raw)
    return {
        name: np.memmap(path, dtype, "r+", base + header[name]["data_offsets"][0], shape)
        for name, (dtype, shape) in layout.items()
    }
