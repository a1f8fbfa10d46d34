"""Patch a checkpoint that exists: changed files are written beside it, the others linked, then it is swapped in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convx.checkpoint import (
    RECORD,
    Checkpoint,
    FilePatch,
    JsonPatch,
    Patch,
    TensorPatch,
    apply_json,
    open_checkpoint,
    partial_folder,
    put_in_place,
    refuse_conflicts,
    write_record,
)
from convx.dtypes import NAMES
from convx.export import to_json
from convx.layout import SHARD_LIMIT, Shard, StoredPart, lay_out
from convx.options import Options
from convx.plugins import detect_architecture
from convx.session import make_hooks
from convx.shards import hash_file
from convx.source import INDEX
from convx.specs import Plain
from convx.tensors import Tensor, row_count, row_length
from convx.verify import verify

_ROWS_BYTES = 4 << 20


def find_patches(path: Path, target: str | None = None, generation: Sequence[tuple[str, Any]] = ()) -> list[Patch]:
    """What the plugins would change in the checkpoint at `path`, and the generation settings given."""
    checkpoint = open_checkpoint(path)
    hooks = make_hooks(detect_architecture(checkpoint.config), (), None, Options())
    patches = hooks.post_save_patches(checkpoint, checkpoint.config, target)
    patches += [JsonPatch("generation_config.json", (key,), value) for key, value in generation]
    refuse_conflicts(patches)
    return patches


def patch_checkpoint(path: Path, patches: Sequence[Patch]) -> None:
    """Apply patches, verify the result, and swap it in; whatever fails, the checkpoint stays as it was."""
    path = path.resolve()
    checkpoint = open_checkpoint(path)
    fresh = partial_folder(path)
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _link_tree(path, fresh)
        changes = {p.name: p.tensor for p in patches if isinstance(p, TensorPatch)}
        if changes:
            _rewrite_tensors(checkpoint, fresh, changes)
        plain = [p for p in patches if isinstance(p, JsonPatch | FilePatch)]
        for name in {p.file for p in plain}:
            _unlink_copy(fresh / name)
        apply_json(fresh, plain)
        _update_record(fresh, checkpoint, patches)
        verify(fresh, checksums=False).require()
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    put_in_place(fresh, path)


def _link_tree(source: Path, target: Path) -> None:
    def link(src: str, dst: str) -> None:
        try:
            os.link(src, dst)
        except OSError:
            shutil.copyfile(src, dst)

    shutil.copytree(source, target, copy_function=link)


def _unlink_copy(path: Path) -> None:
    """Make a linked file one of its own, so that writing to it leaves the original alone."""
    if path.is_file():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def _rewrite_tensors(checkpoint: Checkpoint, fresh: Path, changes: dict[str, Tensor | None]) -> None:
    """Write the shards that hold a changed tensor anew, and the index."""
    holders: dict[str, str] = {name: t.file.path.name for name, t in checkpoint.source.tensors.items()}
    fallback = sorted(set(holders.values()))[0]
    weight_map = dict(holders)
    for shard in sorted({holders.get(name, fallback) for name in changes}):
        kept = {n: t for n, t in checkpoint.tensors.items() if holders[n] == shard and n not in changes}
        added = {n: t for n, t in changes.items() if t is not None and holders.get(n, fallback) == shard}
        for name in [n for n in changes if holders.get(n, fallback) == shard]:
            weight_map.pop(name, None)
        weight_map.update(dict.fromkeys(added, shard))
        _write_shard(fresh / shard, {**kept, **added})
    index = checkpoint.source.read_json(INDEX) or {}
    sizes = {**{n: t.nbytes for n, t in checkpoint.tensors.items()}, **{n: t.nbytes for n, t in changes.items() if t}}
    metadata = {**index.get("metadata", {}), "total_size": sum(sizes[n] for n in weight_map)}
    _unlink_copy(fresh / INDEX)
    (fresh / INDEX).write_bytes(to_json({"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}))


def _write_shard(path: Path, tensors: dict[str, Tensor]) -> None:
    groups = [("model", [StoredPart(name, tensor.dtype, tensor.shape)]) for name, tensor in tensors.items()]
    placed, shards = lay_out(groups, limit=max(SHARD_LIMIT, 1 << 62))
    shard: Shard = shards[0]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(shard.header)
        for [part], tensor in zip(placed, tensors.values(), strict=True):
            file.seek(len(shard.header) + part.offset)
            step = max(1, _ROWS_BYTES // (row_length(tensor.shape) * tensor.dtype.itemsize))
            for start in range(0, row_count(tensor.shape), step):
                rows = tensor.rows(start, min(start + step, row_count(tensor.shape)))
                file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    path.unlink(missing_ok=True)
    partial.rename(path)


def _update_record(fresh: Path, checkpoint: Checkpoint, patches: Sequence[Patch]) -> None:
    """Bring `convx.json` up to date, where there is one: the patches, the changed tensors, the checksums."""
    if checkpoint.record is None:
        return
    record = {**checkpoint.record, "patches": [*checkpoint.record["patches"], *(p.target for p in patches)]}
    changed = {p.name: p.tensor for p in patches if isinstance(p, TensorPatch)}
    record["tensors"] = [_patched_tensor(t, changed) for t in record["tensors"]]
    record["total_bytes"] = sum(t["bytes"] for t in record["tensors"])
    record["bits_per_weight"] = 8 * record["total_bytes"] / record["parameters"]
    for name, entry in record["files"].items():
        path = fresh / name
        if path.is_file() and not path.samefile(checkpoint.path / name):
            record["files"][name] = {**entry, "bytes": path.stat().st_size, "sha256": hash_file(path)}
    (fresh / RECORD).unlink()
    write_record(fresh, record)


def _patched_tensor(entry: dict[str, Any], changed: dict[str, Tensor | None]) -> dict[str, Any]:
    tensor = changed.get(entry["name"])
    if tensor is None:
        return entry
    return {
        **entry, "format": Plain(tensor.dtype).spec, "mode": None, "bits": tensor.dtype.itemsize * 8, "group_size": None,
        "bytes": tensor.nbytes, "by": "patch", "reason": "post-save patch",
        "parts": [{"name": entry["name"], "dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)}],
    }  # fmt: skip
