"""Open a source checkpoint: its config, the headers of its safetensors files, and its sidecar files.

Only headers are read here. Every offset is checked before anything relies on it, and nothing outside the
checkpoint's folder is opened, whatever an index says.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeGuard

from convx.dtypes import BY_NAME, DType
from convx.errors import SourceError
from convx.storage import Storage, StoredFile, View
from convx.tensors import Tensor

INDEX = "model.safetensors.index.json"
MAX_HEADER = 100 * 1024 * 1024
"""Limit of the safetensors format for a header, in bytes."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SIDECARS = re.compile(
    r".*\.(json|jinja|model|txt|tiktoken|jsonl|bpe)|(LICENSE|LICENCE|NOTICE|USE_POLICY|COPYING).*", re.I
)
_NOT_SIDECARS = re.compile(r"config\.json|.*\.index\.json|convx\.json|requirements.*\.txt", re.I)

Config = dict[str, Any]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a safetensors header declares it. `offset` counts bytes from the start of `file`."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: StoredFile
    offset: int
    nbytes: int

    def lazy(self) -> Tensor:
        storage = Storage(self.name, self.file, self.offset, self.nbytes)
        return Tensor(View.whole(storage, self.dtype, self.shape))


@dataclass(frozen=True)
class Source:
    """A checkpoint folder, or a bare config (`files` empty, `bare` true)."""

    path: Path
    config: Config
    tensors: dict[str, StoredTensor]
    files: tuple[StoredFile, ...]
    header_hash: str
    repo: str | None = None
    revision: str | None = None

    @property
    def bare(self) -> bool:
        return self.path.is_file()

    @property
    def folder(self) -> Path:
        return self.path.parent if self.bare else self.path

    @property
    def name(self) -> str:
        return self.repo or self.folder.resolve().name

    @cached_property
    def sidecars(self) -> tuple[str, ...]:
        """Names of the files beside the weights that a conversion may carry."""
        if self.bare:
            return ()
        return tuple(sorted(p.relative_to(self.folder).as_posix() for p in _sidecar_paths(self.folder)))

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def read_json(self, name: str) -> Config | None:
        """A JSON object beside the weights, or None when there is no such file."""
        path = self.folder / name
        return read_json(path) if path.is_file() else None

    def weights(self) -> dict[str, Tensor]:
        return {name: stored.lazy() for name, stored in self.tensors.items()}

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.tensors.values())

    def fingerprint(self) -> str:
        """Changes when a weight file is replaced: models of one geometry have equal headers, but are other files."""
        digest = sha256(self.header_hash.encode())
        for file in self.files:
            status = file.path.stat()
            digest.update(f"{file.path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def close(self) -> None:
        for file in self.files:
            file.close()


def open_source(where: str | Path, *, revision: str | None = None) -> Source:
    """Open a folder, a `config.json`, or a Hub id (`owner/name`, downloaded through huggingface_hub).

    A folder without `*.safetensors` is a bare config: it can be planned, not converted.

    Raises SourceError when there is no config, or a header, an index or a file is not sound.
    """
    path = Path(where)
    if path.exists():
        if revision is not None:
            raise SourceError(f"{where}: a local source has no revision", hint="--revision goes with a Hub id")
        return _open_path(path, None, revision)
    if _HUB_ID.fullmatch(str(where)) and not path.parent.is_dir():
        repo = str(where)
        folder = _download(repo, revision)
        return _open_path(folder, repo, revision or folder.name)
    raise SourceError(f"{where}: no such folder or file", hint="give a checkpoint folder, a config.json or a Hub id")


def _open_path(path: Path, repo: str | None, revision: str | None) -> Source:
    if path.is_file():
        if path.suffix != ".json":
            raise SourceError(f"{path}: not a checkpoint folder or a config.json")
        return Source(path, _read_config(path), {}, (), "", repo, revision)
    if not (path / "config.json").is_file():
        raise SourceError(f"{path}: no config.json", hint="give the folder of a Hugging Face checkpoint")
    config = _read_config(path / "config.json")
    names = _shard_names(path)
    if not names:
        return _open_path(path / "config.json", repo, revision)
    tensors: dict[str, StoredTensor] = {}
    digest = sha256()
    files = []
    for name in names:
        file = StoredFile(path / name)
        files.append(file)
        raw, found = read_header(file)
        digest.update(name.encode() + b"\0" + raw)
        for tensor in found:
            if tensor.name in tensors:
                raise SourceError(f"{path / name}: {tensor.name} is also in {tensors[tensor.name].file.path.name}")
            tensors[tensor.name] = tensor
    _check_index(path, tensors)
    return Source(path, config, tensors, tuple(files), digest.hexdigest(), repo, revision)


def _read_config(path: Path) -> Config:
    """A config whose parts are objects and whose words are words, which everything after relies on."""
    config = read_json(path)
    text = config.get("text_config")
    for key, value in config.items():
        if key.endswith("_config") and value is not None and not isinstance(value, dict):
            raise SourceError(f"{path}: {key} holds a {type(value).__name__}, not an object")
    for part in (config, text or {}):
        for key in ("model_type", "dtype", "torch_dtype"):
            if part.get(key) is not None and not isinstance(part[key], str):
                raise SourceError(f"{path}: {key} holds a {type(part[key]).__name__}, not a word")
    return config


def read_json(path: Path) -> Config:
    """A JSON file that holds an object. Raises SourceError naming the file and the line."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise SourceError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{path}: holds a {type(value).__name__}, not an object")
    return value


def _weight_map(folder: Path) -> dict[str, str]:
    if not (folder / INDEX).is_file():
        return {}
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise SourceError(f"{folder / INDEX}: no weight_map of tensor names to file names")
    return weight_map


def _shard_names(folder: Path) -> list[str]:
    names = sorted(set(_weight_map(folder).values()))
    for name in names:
        if Path(name).name != name or name in {"", ".", ".."}:
            raise SourceError(f"{folder / INDEX}: names {name!r}, which is outside the checkpoint's folder")
        if not (folder / name).is_file():
            raise SourceError(f"{folder}: shard {name} is missing", hint="download it again")
    if not names:
        names = sorted(p.name for p in folder.glob("*.safetensors") if p.name != "consolidated.safetensors")
    return names


def _check_index(folder: Path, tensors: dict[str, StoredTensor]) -> None:
    for name, shard in _weight_map(folder).items():
        if name not in tensors:
            raise SourceError(f"{folder / shard}: lacks {name}, which {INDEX} says it holds")


def read_header(file: StoredFile) -> tuple[bytes, list[StoredTensor]]:
    """The raw header of a safetensors file and the tensors that it declares, every byte range checked."""
    path = file.path
    size = path.stat().st_size
    prefix = bytearray(8)
    if size < 8:
        raise SourceError(f"{path}: {size} bytes are too few for a safetensors file", hint="download it again")
    file.read_into(memoryview(prefix), 0)
    length = int.from_bytes(prefix, "little")
    if length > min(MAX_HEADER, size - 8):
        raise SourceError(
            f"{path}: the header claims {length} bytes, the file has {size - 8}", hint="truncated? download it again"
        )
    raw = bytearray(length)
    file.read_into(memoryview(raw), 8)
    try:
        header = json.loads(bytes(raw), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise SourceError(f"{path}: the header is not an object")
    header.pop("__metadata__", None)
    found = [_stored_tensor(file, name, entry, 8 + length) for name, entry in header.items()]
    _check_ranges(path, found, 8 + length, size)
    return bytes(raw), found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} twice")
        found[key] = value
    return found


def _stored_tensor(file: StoredFile, name: str, entry: Any, base: int) -> StoredTensor:  # noqa: ANN401
    def refuse(why: str) -> SourceError:
        return SourceError(f"{file.path}: tensor {name}: {why}")

    if not isinstance(entry, dict):
        raise refuse("its header entry is not an object")
    dtype = BY_NAME.get(str(entry.get("dtype")))
    if dtype is None:
        raise refuse(f"dtype {entry.get('dtype')!r} is not supported")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not _naturals(shape):
        raise refuse(f"shape {shape!r} is not a list of lengths")
    if not _naturals(offsets) or len(offsets) != 2:
        raise refuse(f"data_offsets {offsets!r} are not two positions")
    begin, end = offsets
    nbytes = math.prod(shape) * dtype.itemsize
    if end - begin != nbytes:
        raise refuse(f"{end - begin} bytes stored, shape {shape} of {entry['dtype']} needs {nbytes}")
    return StoredTensor(name, dtype, tuple(shape), file, base + begin, nbytes)


def _naturals(value: Any) -> TypeGuard[list[int]]:  # noqa: ANN401
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_ranges(path: Path, tensors: list[StoredTensor], base: int, size: int) -> None:
    at, before = base, "the header"
    for tensor in sorted(tensors, key=lambda t: (t.offset, t.nbytes)):
        if tensor.offset < at:
            raise SourceError(f"{path}: tensor {tensor.name} overlaps {before}")
        if tensor.offset > at:
            raise SourceError(
                f"{path}: {tensor.offset - at} bytes between {before} and {tensor.name} belong to nothing"
            )
        at, before = tensor.offset + tensor.nbytes, tensor.name
    if at > size:
        raise SourceError(f"{path}: ends {at - size} bytes too early", hint="truncated? download it again")
    if at < size:
        raise SourceError(f"{path}: {size - at} bytes after the last tensor")


def _sidecar_paths(folder: Path) -> Iterator[Path]:
    for parent in (folder, folder / "additional_chat_templates"):
        if not parent.is_dir():
            continue
        for entry in os.scandir(parent):
            if entry.is_file() and _SIDECARS.fullmatch(entry.name) and not _NOT_SIDECARS.fullmatch(entry.name):
                yield Path(entry.path)


def _download(repo: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "LICENSE*", "NOTICE*"]
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(
            f"{repo}: cannot be fetched from the Hub: {first}", hint="is the name right? log in?"
        ) from None
