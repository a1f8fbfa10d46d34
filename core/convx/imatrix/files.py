"""Importance matrices on disk, in both layouts of llama.cpp: GGUF, and the older .dat.

GGUF: `general.type` = "imatrix", `imatrix.datasets`, `imatrix.chunk_count`, `imatrix.chunk_size`, and for each
weight NAME the tensors `NAME.in_sum2` (experts x channels, sums of squared activations) and `NAME.counts`
(one number an expert). The .dat layout has, for each weight: name, calls, channels, sums; the mean is
sums / calls (llama.cpp common/imatrix-loader.cpp).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convx.errors import SourceError
from convx.tensors import Array

_MAGIC = b"GGUF"
_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class Entry:
    """Of one weight: `sums` (experts, channels) of squared inputs, `counts` (experts,) of inputs seen."""

    sums: Array
    counts: Array


@dataclass(frozen=True)
class ImportanceMatrix:
    entries: dict[str, Entry]
    datasets: tuple[str, ...] = ()


def read_imatrix(path: str | Path) -> ImportanceMatrix:
    """Read either layout. Raises SourceError for a file that is neither, or damaged."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        return _checked(_read_gguf(path) if magic == _MAGIC else _read_dat(path))
    except (OSError, ValueError, struct.error, IndexError, KeyError) as error:
        raise SourceError(f"{path}: not an importance matrix (GGUF or .dat): {error}") from None


def _checked(matrix: ImportanceMatrix) -> ImportanceMatrix:
    if not matrix.entries:
        raise ValueError("it has no entries")
    for name, entry in matrix.entries.items():
        for values in (entry.sums, entry.counts):
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ValueError(f"{name} has values that are not finite, or below zero")
        if not entry.counts.any():
            raise ValueError(f"{name} has seen no inputs")
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    from gguf import GGUFReader

    reader = GGUFReader(str(path))
    kind = reader.get_field("general.type")
    if kind is None or kind.contents() != "imatrix":
        raise ValueError("its general.type is not imatrix")
    parts = {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}
    names = [name.removesuffix(_SUMS) for name in parts if name.endswith(_SUMS)]
    entries = {name: _entry(parts[name + _SUMS], parts[name + _COUNTS]) for name in names}
    datasets = reader.get_field("imatrix.datasets")
    return ImportanceMatrix(entries, tuple(datasets.contents()) if datasets else ())


def _entry(sums: Array, counts: Array) -> Entry:
    counts = counts.reshape(-1)
    return Entry(sums.reshape(len(counts), -1), counts)


def _read_dat(path: Path) -> ImportanceMatrix:
    raw = path.read_bytes()
    at = 4
    entries = {}
    for _ in range(struct.unpack_from("<i", raw)[0]):
        (length,) = struct.unpack_from("<i", raw, at)
        if not 0 < length <= len(raw) - at:
            raise ValueError("an entry's name is cut off")
        name = raw[at + 4 : at + 4 + length].decode()
        at += 4 + length
        calls, values = struct.unpack_from("<ii", raw, at)
        at += 8
        if values < 0 or at + 4 * values > len(raw):
            raise ValueError(f"entry {name!r} is cut off")
        sums = np.frombuffer(raw, "<f4", values, at).astype(np.float32)
        entries[name] = Entry(sums.reshape(1, -1), np.array([calls], np.float32))
        at += 4 * values
    return ImportanceMatrix(entries, _dat_dataset(raw, at))


def _dat_dataset(raw: bytes, at: int) -> tuple[str, ...]:
    if at + 8 > len(raw):
        return ()
    (length,) = struct.unpack_from("<i", raw, at + 4)
    return (raw[at + 8 : at + 8 + length].decode(),) if 0 < length <= len(raw) - at - 8 else ()


def write_imatrix(
    path: Path, entries: Mapping[str, Entry], *, datasets: list[str], chunks: int, chunk_size: int
) -> None:
    """Write the GGUF layout: `chunks` windows of `chunk_size` tokens were seen."""
    from gguf import GGUFValueType, GGUFWriter

    partial = path.with_name(path.name + ".partial")
    writer = GGUFWriter(str(partial), "")
    writer.add_key_value("general.type", "imatrix", GGUFValueType.STRING)
    writer.add_array("imatrix.datasets", datasets)
    writer.add_key_value("imatrix.chunk_count", chunks, GGUFValueType.UINT32)
    writer.add_key_value("imatrix.chunk_size", chunk_size, GGUFValueType.UINT32)
    for name, entry in entries.items():
        writer.add_tensor(name + _SUMS, np.ascontiguousarray(entry.sums, np.float32))
        writer.add_tensor(name + _COUNTS, np.ascontiguousarray(entry.counts.reshape(-1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)
