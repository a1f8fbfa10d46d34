"""Stored bytes: files opened once, positioned reads, and strided views over a tensor's byte range."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from convx.dtypes import DType
from convx.errors import SourceError
from convx.nodes import FullIndex, Node, Shape
from convx.tensors import Array

SPAN_BYTES = 1 << 20
"""A scattered box smaller than this is read as one span and gathered in memory."""


@dataclass(frozen=True)
class StoredFile:
    """A file that is opened on first read and shared by all threads (reads are positioned)."""

    path: Path
    _state: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def fileno(self) -> int:
        with self._lock:
            if "fd" not in self._state:
                self._state["fd"] = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            return self._state["fd"]

    def close(self) -> None:
        with self._lock:
            if "fd" in self._state:
                os.close(self._state.pop("fd"))

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from the file at `offset`. Raises SourceError when the file ends before that."""
        fd, done = self.fileno(), 0
        while done < len(buffer):
            count = _read_at(fd, buffer[done:], offset + done)
            if count == 0:
                raise SourceError(f"{self.path}: ends at byte {offset + done}, inside a tensor")
            done += count


def _read_at(fd: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    found = os.pread(fd, len(buffer), offset)
    buffer[: len(found)] = found
    return len(found)


@dataclass(frozen=True)
class Storage:
    """The byte range of one stored tensor. `file` is None for a tensor that is declared but has no bytes."""

    name: str
    file: StoredFile | None
    offset: int
    nbytes: int


@dataclass(frozen=True)
class View:
    """A strided view over a stored tensor. `offset` and `strides` count elements from the tensor's start."""

    storage: Storage
    dtype: DType
    shape: Shape
    strides: Shape
    offset: int = 0

    @staticmethod
    def whole(storage: Storage, dtype: DType, shape: Shape) -> View:
        return View(storage, dtype, shape, contiguous_strides(shape))

    def sources(self) -> Iterator[str]:
        yield self.storage.name

    def readable(self) -> bool:
        return self.storage.file is not None

    def stored_run(self) -> tuple[StoredFile, int] | None:
        """(file, byte offset) when the view is one run of stored bytes in row-major order."""
        if self.storage.file is None or not is_contiguous(self.shape, self.strides):
            return None
        return self.storage.file, self.storage.offset + self.offset * self.dtype.itemsize

    def index(self, index: FullIndex) -> Node:
        offset, shape, strides, axis = self.offset, [], [], 0
        for item in index:
            if item is None:
                shape.append(1)
                strides.append(0)
                continue
            if isinstance(item, int):
                offset += item * self.strides[axis]
            else:
                offset += item.start * self.strides[axis]
                shape.append(item.stop - item.start)
                strides.append(self.strides[axis])
            axis += 1
        return View(self.storage, self.dtype, tuple(shape), tuple(strides), offset)

    def permute(self, order: Shape) -> Node:
        shape = tuple(self.shape[a] for a in order)
        return View(self.storage, self.dtype, shape, tuple(self.strides[a] for a in order), self.offset)

    def reshaped(self, shape: Shape) -> View | None:
        """The view under another shape, or None when that needs a copy."""
        if is_contiguous(self.shape, self.strides):
            return View(self.storage, self.dtype, shape, contiguous_strides(shape), self.offset)
        kept = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        if [n for n in shape if n != 1] != [n for n, _ in kept]:
            return None
        spare = iter(kept)
        strides = tuple(0 if n == 1 else next(spare)[1] for n in shape)
        return View(self.storage, self.dtype, shape, strides, self.offset)

    def rows(self, start: int, stop: int) -> Array:
        if self.storage.file is None:
            raise SourceError(f"{self.storage.name}: declared by a config, has no bytes to read")
        columns = self.shape[-1] if self.shape else 1
        out = np.empty((stop - start, columns), self.dtype)
        shape, strides = (self.shape, self.strides) if self.shape else ((1,), (1,))
        at = 0
        for box_offset, box_shape, box_strides in _boxes(start, stop, shape[:-1], strides[:-1]):
            count = math.prod(box_shape)
            target = out[at : at + count].reshape(*box_shape, columns)
            self._gather(target, self.offset + box_offset, (*box_strides, strides[-1]))
            at += count
        return out

    def _gather(self, out: Array, offset: int, strides: Shape) -> None:
        """Fill `out` from elements at `offset` with `strides`, in the fewest reads that bound the memory."""
        if out.size == 0:
            return
        if is_contiguous(out.shape, strides):
            self._read(out, offset)
            return
        span = 1 + sum((n - 1) * s for n, s in zip(out.shape, strides, strict=True))
        if span * self.dtype.itemsize <= SPAN_BYTES:
            flat = np.empty(span, self.dtype)
            self._read(flat, offset)
            byte_strides = tuple(s * self.dtype.itemsize for s in strides)
            out[...] = np.lib.stride_tricks.as_strided(flat, out.shape, byte_strides, writeable=False)
            return
        axis = max((a for a in range(out.ndim) if out.shape[a] > 1), key=lambda a: strides[a])
        half = out.shape[axis] // 2
        before = (slice(None),) * axis
        self._gather(out[(*before, slice(None, half))], offset, strides)
        self._gather(out[(*before, slice(half, None))], offset + half * strides[axis], strides)

    def _read(self, out: Array, offset: int) -> None:
        assert self.storage.file is not None
        position = self.storage.offset + offset * self.dtype.itemsize
        if out.flags.c_contiguous:
            self.storage.file.read_into(out.reshape(-1).view(np.uint8).data, position)
            return
        run = np.empty(out.shape, self.dtype)
        self.storage.file.read_into(run.reshape(-1).view(np.uint8).data, position)
        out[...] = run


def contiguous_strides(shape: Shape) -> Shape:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def is_contiguous(shape: Shape, strides: Shape) -> bool:
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length == 1:
            continue
        if stride != expected:
            return False
        expected *= length
    return True


def _boxes(start: int, stop: int, shape: Shape, strides: Shape) -> Iterator[tuple[int, Shape, Shape]]:
    """Cut rows [start, stop) of the leading axes into boxes: (element offset, shape, strides)."""
    if start >= stop:
        return
    if not shape:
        yield 0, (), ()
        return
    inner = math.prod(shape[1:])
    first, last = start // inner, stop // inner
    if start % inner:
        end = min(stop - first * inner, inner)
        for offset, box, steps in _boxes(start % inner, end, shape[1:], strides[1:]):
            yield first * strides[0] + offset, box, steps
        first += 1
    if first < last:
        yield first * strides[0], (last - first, *shape[1:]), strides
    if stop % inner and last >= first:
        for offset, box, steps in _boxes(0, stop % inner, shape[1:], strides[1:]):
            yield last * strides[0] + offset, box, steps


def reading_order(node: Node) -> tuple[str, int]:
    """(file, byte) where the first stored byte of an expression is: sorts work so that files are read front to back."""
    view = next(_views(node), None)
    if view is None or view.storage.file is None:
        return ("", 0)
    return (view.storage.file.path.name, view.storage.offset)


def _views(node: object) -> Iterator[View]:
    if isinstance(node, View):
        yield node
        return
    for name in ("child", "operand"):
        if hasattr(node, name):
            yield from _views(getattr(node, name))
    for name in ("parts", "children"):
        for child in getattr(node, name, ())[:1]:
            yield from _views(child)
