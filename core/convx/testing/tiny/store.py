"""Write the files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

LICENSE = "The weights are random numbers made for tests. No rights are reserved (CC0-1.0).\n"


def write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_weights(out: Path, tensors: dict[str, Array], shards: int) -> None:
    """Write `model.safetensors`, or several shards of about equal size with their index."""
    parts = _split(tensors, shards)
    if len(parts) == 1:
        save_file(parts[0], out / "model.safetensors", metadata={"format": "pt"})
        return
    names = [f"model-{i:05}-of-{len(parts):05}.safetensors" for i in range(1, len(parts) + 1)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, out / name, metadata={"format": "pt"})
    weight_map = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    totals = {
        "total_parameters": sum(tensor.size for tensor in tensors.values()),
        "total_size": sum(tensor.nbytes for tensor in tensors.values()),
    }
    index = {"metadata": totals, "weight_map": dict(sorted(weight_map.items()))}
    write_json(out / "model.safetensors.index.json", index)


def _split(tensors: dict[str, Array], shards: int) -> list[dict[str, Array]]:
    """Fill shards in name order until each has its share of the bytes; none is empty."""
    share = sum(tensor.nbytes for tensor in tensors.values()) / shards
    parts: list[dict[str, Array]] = [{}]
    filled = 0
    for name, tensor in sorted(tensors.items()):
        if parts[-1] and filled >= share * len(parts):
            parts.append({})
        parts[-1][name] = tensor
        filled += tensor.nbytes
    return parts
