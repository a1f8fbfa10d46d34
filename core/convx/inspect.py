"""Describe a checkpoint from its headers and config alone, in the words of a plan."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from convx.checkpoint import Checkpoint, open_checkpoint
from convx.config import quantization_entries
from convx.dtypes import SHORT_NAMES
from convx.errors import ConvxError
from convx.plugins import ARCHITECTURES, Formats, Hooks, detect_architecture, find
from convx.requantize import quantization_of


def inspect_checkpoint(path: str | Path) -> dict[str, Any]:
    """What is stored at `path`. A checkpoint that convx made also gives its sources and reasons."""
    checkpoint = open_checkpoint(path)
    tensors = _tensors(checkpoint)
    parameters = sum(math.prod(t["shape"]) for t in tensors)
    total = sum(t["bytes"] for t in tensors)
    record = checkpoint.record or {}
    top = quantization_of(checkpoint.config)
    return {
        "architecture": _architecture(checkpoint),
        "format": record.get("format") or _describe(top),
        "recipe": record.get("recipe"),
        "parameters": parameters,
        "bits_per_weight": 8 * total / max(1, parameters),
        "total_bytes": total,
        "overrides": len(quantization_entries(checkpoint.config)),
        "dropped": record.get("dropped", []),
        "warnings": record.get("warnings", []),
        "made_by": f"convx {record['versions']['convx']}" if record else None,
        "tensors": tensors,
    }


def _architecture(checkpoint: Checkpoint) -> str:
    try:
        return detect_architecture(checkpoint.config)
    except ConvxError:
        return str(checkpoint.config.get("model_type"))


def _tensors(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    known = {t["name"]: t for t in (checkpoint.record or {}).get("tensors", ())}
    hooks = Hooks()
    name = _architecture(checkpoint)
    with suppress(ConvxError):
        hooks.register(find(ARCHITECTURES, name).load(), name)
    parts = {n for n in checkpoint.tensors if n.endswith((".scales", ".biases")) and _owner(n) in checkpoint.tensors}
    out = []
    for name in checkpoint.tensors:
        if name not in parts:
            found = _tensor(checkpoint, name, hooks)
            out.append({**found, **{k: known[name][k] for k in ("source", "by", "reason") if name in known}})
    return out


def _owner(name: str) -> str:
    return name.rpartition(".")[0] + ".weight"


def _tensor(checkpoint: Checkpoint, name: str, hooks: Hooks) -> dict[str, Any]:
    tensor = checkpoint.tensors[name]
    module = name.removesuffix(".weight")
    entry = checkpoint.entry(module) if name.endswith(".weight") else None
    place = hooks.tensor_role(name, checkpoint.config)
    base: dict[str, Any] = {
        "name": name, "role": str(place.role), "layer": place.layer, "source": [], "by": None, "reason": "as stored",
    }  # fmt: skip
    if not entry:
        return {
            **base, "shape": list(tensor.shape), "format": SHORT_NAMES.get(tensor.dtype, tensor.dtype.name), "mode": None,
            "bits": tensor.dtype.itemsize * 8, "group_size": None, "bytes": tensor.nbytes,
        }  # fmt: skip
    bits, mode = int(entry["bits"]), entry.get("mode", "affine")
    members = (checkpoint.tensors.get(f"{module}.{s}") for s in ("weight", "scales", "biases"))
    return {
        **base, "shape": [*tensor.shape[:-1], tensor.shape[-1] * 32 // bits], "format": _describe(entry), "mode": mode,
        "bits": bits, "group_size": entry["group_size"], "bytes": sum(t.nbytes for t in members if t is not None),
    }  # fmt: skip


def _describe(entry: dict[str, Any] | None) -> str:
    if not entry or "bits" not in entry:
        return "bf16" if not entry else str(entry.get("quant_method"))
    mode = entry.get("mode", "affine")
    try:
        return Formats().by_mode(mode, int(entry["bits"]), int(entry["group_size"])).spec
    except ConvxError:
        return f"{mode} {entry['bits']}/{entry['group_size']}"
