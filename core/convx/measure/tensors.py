"""How far each stored tensor is from its source: relative error, signal to noise, clipped share; streamed.

The source goes through the same sanitize steps as in the conversion, and the stored parts are decoded to float32,
the values that the loader's kernels compute with.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convx.checkpoint import Checkpoint, open_checkpoint
from convx.dtypes import FLOATS, SHORT_NAMES, U32
from convx.errors import MeasureError
from convx.formats import Array, Format
from convx.measure.origin import as_written, recorded_options
from convx.measure.steps import Steps
from convx.plugins import Formats
from convx.prepare import Prepared
from convx.roles import Role
from convx.session import open_session
from convx.tensors import Tensor, row_count, row_length

TILE = 1 << 21
"""Elements that are decoded at once; about ten float32 arrays of this size exist meanwhile."""

CLIP_MARGIN = 2.0**-8
"""How far beyond its group's range an element must be to count as clipped, as a share of the group's largest
magnitude: bf16's rounding of affine scales alone moves a range by that much."""


@dataclass
class Sums:
    """Sums over elements, in float64, from which every figure follows."""

    elements: int = 0
    signal: float = 0.0
    noise: float = 0.0
    ranged: int = 0
    clipped: int = 0

    def add(self, other: Sums) -> None:
        self.elements += other.elements
        self.signal += other.signal
        self.noise += other.noise
        self.ranged += other.ranged
        self.clipped += other.clipped

    def figures(self) -> dict[str, Any]:
        """relative_error: RMS of the difference / RMS of the source. snr_db: 10 log10(signal / noise), None if exact.

        clipped: share of elements beyond the range that their group can represent, None where nothing was
        quantized.
        """
        exact = self.noise == 0 or self.signal == 0
        return {
            "relative_error": math.sqrt(self.noise / self.signal) if self.signal else 0.0,
            "snr_db": None if exact else 10 * math.log10(self.signal / self.noise),
            "clipped": self.clipped / self.ranged if self.ranged else None,
        }


@dataclass(frozen=True)
class Stored:
    """A tensor of a checkpoint: its stored parts, and the format that decodes them, None for plain numbers."""

    parts: tuple[Tensor, ...]
    form: Format | None

    @property
    def spec(self) -> str:
        dtype = self.parts[0].dtype
        return self.form.spec if self.form else SHORT_NAMES.get(dtype, dtype.name)


def measure_tensors(
    path: str | Path, against: str | Path, *, imatrix: str | Path | None = None, steps: Steps | None = None
) -> list[dict[str, Any]]:
    """One row a weight: name, role, layer, format, elements, relative_error, snr_db, clipped.

    `imatrix` is the importance matrix that the checkpoint was made with, if any: what was folded into its weights
    is folded into the source's too. Raises MeasureError when the source does not hold what the checkpoint does.
    """
    found = _compare_all(path, against, imatrix, steps or Steps())
    return [{**about, **sums.figures()} for about, sums in found]


def measure_with_roles(
    path: str | Path, against: str | Path, *, imatrix: str | Path | None = None, steps: Steps | None = None
) -> dict[str, Any]:
    """Rows by tensor, and the same figures over all elements of each role and of everything that is quantized."""
    rows: list[dict[str, Any]] = []
    roles: dict[str, Sums] = defaultdict(Sums)
    quantized = Sums()
    for about, sums in _compare_all(path, against, imatrix, steps or Steps()):
        rows.append({**about, **sums.figures()})
        roles[about["role"]].add(sums)
        if sums.ranged:
            quantized.add(sums)
    by_role = {role: {"elements": s.elements, **s.figures()} for role, s in sorted(roles.items())}
    return {"tensors": rows, "roles": by_role, "quantized": {"elements": quantized.elements, **quantized.figures()}}


def _compare_all(
    path: str | Path, against: str | Path, imatrix: str | Path | None, steps: Steps
) -> Iterator[tuple[dict[str, Any], Sums]]:
    checkpoint = open_checkpoint(path)
    record = checkpoint.record or {}
    prepared = open_session(against, arch=record.get("architecture"), options=recorded_options(record)).prepared
    if prepared.source.bare:
        raise MeasureError(f"{against}: a bare config has no weights to compare with")
    try:
        yield from _rows(prepared, checkpoint, imatrix, steps)
    finally:
        checkpoint.source.close()
        prepared.source.close()


def _rows(
    prepared: Prepared, checkpoint: Checkpoint, imatrix: str | Path | None, steps: Steps
) -> Iterator[tuple[dict[str, Any], Sums]]:
    formats = Formats()
    infos = [info for info in prepared.infos if info.role is not Role.MTP and info.dtype in FLOATS]
    stored = {info.name: find_stored(checkpoint, info.name, formats) for info in infos}
    weights = as_written(
        prepared, checkpoint.record or {}, imatrix, {n: s.form for n, s in stored.items() if s.form is not None}
    )
    steps.begin("tensors", len(infos))
    for info in infos:
        kept = stored[info.name]
        about = {
            "name": info.name, "role": str(info.role), "layer": info.placement.layer, "format": kept.spec,
            "elements": weights[info.name].size,
        }  # fmt: skip
        yield about, compare(weights[info.name], kept, info.name)
        steps.advance()


def find_stored(checkpoint: Checkpoint, name: str, formats: Formats) -> Stored:
    """The stored parts of a weight. Raises MeasureError when it is not there, or in an unknown format."""
    module = name.removesuffix(".weight")
    entry = checkpoint.entry(module) if name.endswith(".weight") else None
    try:
        if entry is None:
            return Stored((checkpoint.tensors[name],), None)
        form = formats.by_mode(entry.get("mode", "affine"), int(entry["bits"]), int(entry["group_size"]))
        columns = checkpoint.tensors[name].shape[-1] * 32 // form.bits
        parts = form.parts(columns, checkpoint.tensors[f"{module}.scales"].dtype)
        return Stored(tuple(checkpoint.tensors[f"{module}.{part.suffix}"] for part in parts), form)
    except KeyError as error:
        raise MeasureError(
            f"{checkpoint.path}: has no {error.args[0]}, which its source has",
            hint="is this the source that the checkpoint was made from?",
        ) from None


def compare(source: Tensor, stored: Stored, name: str) -> Sums:
    """Compare a tensor with what is stored of it, a tile at a time."""
    first = stored.parts[0]
    rows, columns = row_count(source.shape), row_length(source.shape)
    if row_count(first.shape) != rows or (stored.form is None and first.shape != source.shape):
        raise MeasureError(f"{name}: stored as {first.shape}, the source gives {source.shape}")
    total = Sums()
    step = max(1, TILE // max(1, columns))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        wanted = np.asarray(source.rows(start, stop), np.float32)
        total.add(_compare_tile(wanted, [part.rows(start, stop) for part in stored.parts], stored.form))
    return total


def _compare_tile(wanted: Array, parts: list[Array], form: Format | None) -> Sums:
    """Sums of one tile. NaN and infinities of the source count as nothing: no error is defined for them."""
    found = np.asarray(parts[0], np.float32) if form is None else form.decode(tuple(parts))
    if not (finite := np.isfinite(wanted)).all():
        wanted, found = np.where(finite, wanted, 0), np.where(finite, found, 0)
    noise = float(np.square(wanted - found, dtype=np.float64).sum())
    signal = float(np.square(wanted, dtype=np.float64).sum())
    sums = Sums(wanted.size, signal, noise)
    if form is not None and parts[0].dtype == U32:
        sums.ranged, sums.clipped = wanted.size, _clipped(wanted, parts, form)
    return sums


def _clipped(wanted: Array, parts: list[Array], form: Format) -> int:
    """How many elements lie beyond the range of their group, by more than `CLIP_MARGIN`."""
    low, high = group_range(parts, form)
    margin = CLIP_MARGIN * np.maximum(np.abs(low), np.abs(high))
    groups = wanted.reshape(*low.shape, -1)
    beyond = (groups > (high + margin)[..., None]) | (groups < (low - margin)[..., None])
    return int(beyond.sum())


def group_range(parts: list[Array], form: Format) -> tuple[Array, Array]:
    """The least and greatest number that each group can represent with its scale: (rows, groups) each.

    Every element is given the same code, for each code that can be extreme: all bits 0 or 1 (affine), and the
    largest finite magnitude of either sign (E2M1: 7 and 15; E4M3: 0x7E and 0xFE, since 0x7F is no number).
    """
    low = high = None
    for word in _extreme_words(form.bits):
        decoded = form.decode((np.full_like(parts[0], word), *parts[1:]))
        values = decoded.reshape(len(decoded), -1, form.group_size)[..., 0]
        low = values if low is None else np.fmin(low, values)
        high = values if high is None else np.fmax(high, values)
    assert low is not None and high is not None
    return low, high


def _extreme_words(bits: int) -> list[int]:
    words = [0x00000000, 0xFFFFFFFF]
    if bits == 4:
        words.append(0x77777777)
    if bits == 8:
        words += [0x7E7E7E7E, 0xFEFEFEFE]
    return words
