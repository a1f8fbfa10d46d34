"""The weights that a checkpoint was encoded from, as the conversion saw them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from convx.errors import MeasureError
from convx.fold import fold
from convx.formats import Format
from convx.imatrix.files import read_imatrix
from convx.imatrix.names import by_weight
from convx.options import Options
from convx.prepare import Prepared
from convx.tensors import Tensor, as_dtype


def recorded_options(record: dict[str, Any]) -> Options:
    """The options that shape the sanitized weights, from a checkpoint's record; the defaults where it has none."""
    said = record.get("options") or {}
    return Options(
        modality=said.get("modality", "all"),
        mtp=said.get("mtp", "drop"),
        shared_kv=said.get("shared_kv", "drop"),
        dtype=as_dtype(said["dtype"]) if said.get("dtype") else None,
        requantize=bool(said.get("requantize")),
    )


def as_written(
    prepared: Prepared, record: dict[str, Any], imatrix: str | Path | None, formats: Mapping[str, Format]
) -> Mapping[str, Tensor]:
    """Sanitized weights, with activation scales folded in where the checkpoint's record says so."""
    used = record.get("calibration")
    if not used:
        return prepared.weights
    if imatrix is None:
        raise MeasureError(
            f"scales of the importance matrix {used['imatrix']} are folded into this checkpoint's weights",
            hint="convx measure PATH --tensors --reference SOURCE --imatrix FILE compares them with it",
        )
    if sha256(Path(imatrix).read_bytes()).hexdigest() != used["sha256"]:
        raise MeasureError(f"{imatrix}: is not the importance matrix that this checkpoint was made with")
    matrix = by_weight(read_imatrix(imatrix), prepared.infos)
    groups = prepared.hooks.fold_groups(dict(prepared.weights), prepared.config)
    return fold(prepared.weights, groups, matrix, prepared.plain, formats.get).weights
