"""Lay output tensors out in shards: which file, and which bytes of it, before anything is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from convx.dtypes import NAMES, DType

SHARD_LIMIT = 5 << 30
"""Most tensor bytes in a shard, as the stock tools have it."""


@dataclass(frozen=True)
class StoredPart:
    """One tensor of an output file. `offset` counts bytes from the start of the file's data."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    shard: int = -1
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """One output file: its name, its header's bytes (length prefix included), and its tensors' bytes."""

    name: str
    header: bytes
    data_bytes: int

    @property
    def nbytes(self) -> int:
        return len(self.header) + self.data_bytes


def lay_out(
    groups: Sequence[tuple[str, Sequence[StoredPart]]], limit: int = SHARD_LIMIT
) -> tuple[list[list[StoredPart]], list[Shard]]:
    """Place the parts of each tensor: (file stem, parts) in reading order -> the same parts, placed, and the shards.

    Parts of one tensor share a shard. Inside a shard wider types come first, so that every tensor is aligned
    to its type without gaps (which the safetensors format forbids).
    """
    bins = _fill(groups, limit)
    placed: list[list[StoredPart]] = [[] for _ in groups]
    shards = []
    for number, (stem, members) in enumerate(bins):
        flat = [(tensor, part) for tensor in members for part in groups[tensor][1]]
        flat.sort(key=lambda item: -item[1].dtype.itemsize)
        at, in_file = 0, []
        for tensor, part in flat:
            done = StoredPart(part.name, part.dtype, part.shape, number, at)
            at += part.nbytes
            placed[tensor].append(done)
            in_file.append(done)
        shards.append(Shard(_shard_name(bins, number, stem), _header(in_file), at))
    order = [{p.name: n for n, p in enumerate(parts)} for _, parts in groups]
    return [sorted(parts, key=lambda p: order[n][p.name]) for n, parts in enumerate(placed)], shards


def _fill(groups: Sequence[tuple[str, Sequence[StoredPart]]], limit: int) -> list[tuple[str, list[int]]]:
    bins: list[tuple[str, list[int]]] = []
    for stem in dict.fromkeys(stem for stem, _ in groups):
        filled = limit
        for tensor, (own, parts) in enumerate(groups):
            if own != stem:
                continue
            nbytes = sum(p.nbytes for p in parts)
            if filled and filled + nbytes > limit:
                bins.append((stem, []))
                filled = 0
            bins[-1][1].append(tensor)
            filled += nbytes
    return bins


def _shard_name(bins: list[tuple[str, list[int]]], number: int, stem: str) -> str:
    same = [n for n, (other, _) in enumerate(bins) if other == stem]
    if len(same) == 1:
        return f"{stem}.safetensors"
    return f"{stem}-{same.index(number) + 1:05d}-of-{len(same):05d}.safetensors"


def _header(parts: Sequence[StoredPart]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    for part in parts:
        header[part.name] = {
            "dtype": NAMES[part.dtype],
            "shape": list(part.shape),
            "data_offsets": [part.offset, part.offset + part.nbytes],
        }
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw
