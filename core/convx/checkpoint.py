"""An MLX checkpoint on disk: open it, finish writing it, patch it, put it in place."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convx.config import config_dtype
from convx.errors import PluginError, SourceError, WriteError
from convx.export import Export, to_json
from convx.plan import Plan
from convx.requantize import quantization_of
from convx.shaping import map_rows
from convx.source import INDEX, Config, Source, open_source, read_json
from convx.tensors import Tensor

RECORD = "convx.json"


@dataclass(frozen=True)
class TensorPatch:
    """Replace a stored tensor by another, or remove it (`tensor` None)."""

    name: str
    tensor: Tensor | None

    @property
    def target(self) -> str:
        return f"tensor {self.name}"


@dataclass(frozen=True)
class JsonPatch:
    """Set one value of a JSON file, at a path of keys; the file is made when it is not there."""

    file: str
    path: tuple[str, ...]
    value: Any

    @property
    def target(self) -> str:
        return f"{self.file}: {'.'.join(self.path)}"


@dataclass(frozen=True)
class FilePatch:
    """Write a whole file beside the weights."""

    file: str
    content: bytes

    @property
    def target(self) -> str:
        return self.file


Patch = TensorPatch | JsonPatch | FilePatch


@dataclass(frozen=True)
class Checkpoint:
    """A written checkpoint: config, tensors by name, and convx's own record where there is one."""

    source: Source
    record: dict[str, Any] | None
    fresh: bool = False
    """Just written by this run, whose plan has the last word on tensors."""

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def config(self) -> Config:
        return self.source.config

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return self.source.weights()

    def decoded(self, module: str) -> Tensor:
        """A quantized module's weight as the loader computes with it, in the config's type of number."""
        from convx.plugins import Formats

        entry = self.entry(module)
        if entry is None:
            raise SourceError(f"{self.path}: {module} is not quantized")
        form = Formats().by_mode(entry.get("mode", "affine"), int(entry["bits"]), int(entry["group_size"]))
        columns = self.tensors[f"{module}.weight"].shape[-1] * 32 // form.bits
        suffixes = [p.suffix for p in form.parts(columns, self.tensors[f"{module}.scales"].dtype)]
        try:
            parts = [self.tensors[f"{module}.{suffix}"] for suffix in suffixes]
        except KeyError as error:
            raise SourceError(
                f"{self.path}: {module} is stored as {form.spec} without {error.args[0]}, so it cannot be decoded",
                hint="convert it again from the unquantized source",
            ) from None
        tensor = map_rows(lambda *rows: form.decode(rows), parts, columns, np.dtype(np.float32))
        return tensor.astype(config_dtype(self.config))

    def entry(self, module: str) -> dict[str, Any] | None:
        """What the config says of a module that has scales: its own entry, else the top level's."""
        if f"{module}.scales" not in self.tensors:
            return None
        top = quantization_of(self.config) or {}
        own = top.get(module)
        return own if isinstance(own, dict) else top


def open_checkpoint(path: str | Path) -> Checkpoint:
    path = Path(path)
    if not path.is_dir():
        raise SourceError(
            f"{path}: {'is a file' if path.exists() else 'no such folder'}", hint="give a checkpoint's folder"
        )
    source = open_source(path)
    if source.bare:
        raise SourceError(f"{path}: no *.safetensors files", hint="give the folder of a checkpoint")
    record = read_record(path) if (path / RECORD).is_file() else None
    return Checkpoint(source, record)


def write_sidecars(plan: Plan, folder: Path) -> None:
    """Config, index, and the files beside the weights; carried ones are copied byte for byte."""
    (folder / "config.json").write_bytes(to_json(plan.config))
    (folder / INDEX).write_bytes(to_json(index_of(plan)))
    for name, content in _files(plan.export):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        if content is None:
            shutil.copyfile(plan.source.folder / name, target)
        else:
            target.write_bytes(content)


def _files(export: Export) -> Iterable[tuple[str, bytes | None]]:
    return sorted(export.files.items())


def index_of(plan: Plan) -> dict[str, Any]:
    weight_map = {
        part.name: plan.shards[part.shard].name
        for tensor in plan.tensors
        for part in tensor.parts
        if not plan.shards[part.shard].name.startswith("mtp")
    }
    metadata = {"total_size": plan.total_bytes, "total_parameters": plan.parameters}
    return {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}


def apply_json(folder: Path, patches: Iterable[JsonPatch | FilePatch]) -> None:
    """Apply patches of files beside the weights, in place."""
    for patch in patches:
        path = folder / patch.file
        if isinstance(patch, FilePatch):
            path.write_bytes(patch.content)
            continue
        value = read_json(path) if path.is_file() else {}
        at = value
        for key in patch.path[:-1]:
            at = at.setdefault(key, {})
            if not isinstance(at, dict):
                raise PluginError(f"{patch.target}: {key!r} holds no object to set a value in")
        at[patch.path[-1]] = patch.value
        path.write_bytes(to_json(value))


def refuse_conflicts(patches: Iterable[Patch]) -> None:
    """Raises WriteError when two patches that are not equal touch one thing, PluginError for what is no patch."""
    seen: dict[str, Patch] = {}
    for patch in patches:
        if not isinstance(patch, TensorPatch | JsonPatch | FilePatch):
            raise PluginError(f"convx_post_save_patch gave a {type(patch).__name__}, not a patch")
        if not isinstance(patch, TensorPatch) and Path(patch.file).name != patch.file:
            raise PluginError(f"a patch names {patch.file!r}, which is not a file of the checkpoint's folder")
        other = seen.setdefault(patch.target, patch)
        if other is not patch and other != patch:
            raise WriteError(
                f"two patches disagree on {patch.target}", hint="see which plugins are active: convx plugins"
            )


def read_record(folder: Path) -> dict[str, Any]:
    if not (folder / RECORD).is_file():
        raise SourceError(f"{folder}: no {RECORD}", hint="this checkpoint was not made by convx")
    return checked_record(folder, read_json(folder / RECORD))


def checked_record(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record, if it has what every reader of it relies on. Raises SourceError naming what it lacks."""
    for key, kind in (("tensors", list), ("files", dict), ("versions", dict), ("dropped", list), ("architecture", str)):
        if not isinstance(record.get(key), kind):
            raise SourceError(f"{folder / RECORD}: has no {key}", hint="it is damaged; convert again")
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(folder / RECORD)


def partial_folder(out: Path) -> Path:
    return out.parent / f".{out.name}.convx-partial"


def journal_path(out: Path) -> Path:
    return out.parent / f".{out.name}.convx-journal"


def put_in_place(partial: Path, out: Path) -> None:
    """Rename a finished folder to its name; what was there before goes only after that."""
    if out.exists():
        old = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.old"
        out.rename(old)
        try:
            partial.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old)
    else:
        partial.rename(out)
    _sync_folder(out.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
