"""The expressions behind lazy tensors: constants, casts, arithmetic. Each computes any range of its rows.

Slices and permutations are pushed down to the stored bytes wherever that is possible, so that a tile of
a sliced, stacked, cast tensor still reads only the bytes it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from convx.dtypes import F16, DType
from convx.errors import TensorError
from convx.tensors import Array, row_length

Shape = tuple[int, ...]
FullIndex = tuple[int | slice | None, ...]


class Node(Protocol):
    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> DType: ...
    def rows(self, start: int, stop: int) -> Array: ...
    def sources(self) -> Iterator[str]: ...
    def readable(self) -> bool: ...
    def index(self, index: FullIndex) -> Node: ...
    def permute(self, order: Shape) -> Node: ...


@dataclass(frozen=True)
class Constant:
    """A small array in memory, for scale factors and corrections."""

    array: Array

    @property
    def shape(self) -> Shape:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> DType:
        return np.dtype(self.array.dtype)

    def rows(self, start: int, stop: int) -> Array:
        return self.array.reshape(-1, row_length(self.shape))[start:stop]

    def sources(self) -> Iterator[str]:
        return iter(())

    def readable(self) -> bool:
        return True

    def index(self, index: FullIndex) -> Node:
        return Constant(self.array[index])

    def permute(self, order: Shape) -> Node:
        return Constant(self.array.transpose(order))


@dataclass(frozen=True)
class Cast:
    child: Node
    dtype: DType

    @property
    def shape(self) -> Shape:
        return self.child.shape

    def rows(self, start: int, stop: int) -> Array:
        return cast(self.child.rows(start, stop), self.dtype, self.sources)

    def sources(self) -> Iterator[str]:
        return self.child.sources()

    def readable(self) -> bool:
        return self.child.readable()

    def index(self, index: FullIndex) -> Node:
        return Cast(self.child.index(index), self.dtype)

    def permute(self, order: Shape) -> Node:
        return Cast(self.child.permute(order), self.dtype)


def cast(values: Array, dtype: DType, names: Callable[[], Iterator[str]]) -> Array:
    """`values` as `dtype`, rounded to nearest even. Raises TensorError naming the sources where finite ones overflow."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        out = values.astype(dtype)
    narrower = dtype == F16 or dtype.itemsize < values.dtype.itemsize
    if narrower and not np.isfinite(out).all() and np.isfinite(values[~np.isfinite(out)]).any():
        raise TensorError(
            f"{', '.join(dict.fromkeys(names()))}: casting {values.dtype} to {dtype} overflows",
            hint="use --dtype bf16 for this model",
        )
    return out


_OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
}


@dataclass(frozen=True)
class Binary:
    """Element by element; the operand is a node of the same shape, or a number, which takes the node's dtype."""

    operation: str
    child: Node
    operand: Node | float

    @property
    def shape(self) -> Shape:
        return self.child.shape

    @cached_property
    def dtype(self) -> DType:
        if isinstance(self.operand, float | int):
            return self.child.dtype
        return np.result_type(self.child.dtype, self.operand.dtype)

    def rows(self, start: int, stop: int) -> Array:
        if isinstance(self.operand, float | int):
            operand: Array = np.asarray(self.operand, self.child.dtype)
        else:
            operand = self.operand.rows(start, stop)
        return _OPERATIONS[self.operation](self.child.rows(start, stop), operand).astype(self.dtype, copy=False)

    def _operands(self) -> Iterator[Node]:
        yield self.child
        if not isinstance(self.operand, float | int):
            yield self.operand

    def sources(self) -> Iterator[str]:
        for node in self._operands():
            yield from node.sources()

    def readable(self) -> bool:
        return all(node.readable() for node in self._operands())

    def _apply(self, change: Callable[[Node], Node]) -> Node:
        operand = self.operand if isinstance(self.operand, float | int) else change(self.operand)
        return Binary(self.operation, change(self.child), operand)

    def index(self, index: FullIndex) -> Node:
        return self._apply(lambda node: node.index(index))

    def permute(self, order: Shape) -> Node:
        return self._apply(lambda node: node.permute(order))


def indexed_shape(shape: Shape, index: FullIndex) -> Shape:
    out, axis = [], 0
    for item in index:
        if item is None:
            out.append(1)
            continue
        if isinstance(item, slice):
            out.append(item.stop - item.start)
        axis += 1
    return tuple(out)
