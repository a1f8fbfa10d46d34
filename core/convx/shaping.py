"""Expressions that change a lazy tensor's shape: repeat, join, reshape; and functions of its rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from convx.dtypes import DType
from convx.errors import TensorError
from convx.nodes import Binary, Cast, Constant, FullIndex, Node, Shape, indexed_shape
from convx.tensors import Array, Tensor, row_count, row_length


@dataclass(frozen=True)
class Reshaping:
    """What holds of every node that shows one child under another shape."""

    child: Node
    shape: Shape

    @property
    def dtype(self) -> DType:
        return self.child.dtype

    def sources(self) -> Iterator[str]:
        return self.child.sources()

    def readable(self) -> bool:
        return self.child.readable()


@dataclass(frozen=True)
class Broadcast(Reshaping):
    """A node of as many axes as `shape`, repeated along those of length 1."""

    def rows(self, start: int, stop: int) -> Array:
        coordinates = np.unravel_index(np.arange(start, stop), self.shape[:-1])
        inner = self.child.shape[:-1]
        fixed = tuple(np.minimum(c, n - 1) for c, n in zip(coordinates, inner, strict=True))
        wanted = np.ravel_multi_index(fixed, inner) if inner else np.zeros(stop - start, np.int64)
        if not len(wanted):
            return np.empty((0, row_length(self.shape)), self.dtype)
        first = int(wanted.min())
        found = self.child.rows(first, int(wanted.max()) + 1)[wanted - first]
        return np.broadcast_to(found, (stop - start, row_length(self.shape)))

    def index(self, index: FullIndex) -> Node:
        shape = indexed_shape(self.shape, index)
        items, axis = [], 0
        for item in index:
            if item is not None:
                if self.child.shape[axis] == 1 and self.shape[axis] != 1:
                    item = 0 if isinstance(item, int) else slice(0, 1)
                axis += 1
            items.append(item)
        return Broadcast(self.child.index(tuple(items)), shape)

    def permute(self, order: Shape) -> Node:
        return Broadcast(self.child.permute(order), tuple(self.shape[a] for a in order))


@dataclass(frozen=True)
class Concat:
    """Parts joined along one axis."""

    parts: tuple[Node, ...]
    axis: int

    @cached_property
    def shape(self) -> Shape:
        first = self.parts[0].shape
        return (*first[: self.axis], sum(p.shape[self.axis] for p in self.parts), *first[self.axis + 1 :])

    @property
    def dtype(self) -> DType:
        return self.parts[0].dtype

    @cached_property
    def _row_bounds(self) -> list[int]:
        """First row of each part within one step of the axes before `axis`."""
        return [0, *accumulate(row_count(p.shape[self.axis :]) for p in self.parts)]

    def rows(self, start: int, stop: int) -> Array:
        if self.axis == len(self.shape) - 1:
            return np.concatenate([p.rows(start, stop) for p in self.parts], axis=-1)
        out = np.empty((stop - start, row_length(self.shape)), self.dtype)
        for part, first, last, at in self._pieces(start, stop):
            out[at : at + last - first] = self.parts[part].rows(first, last)
        return out

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """(part, first row, last row, position in the result) for the rows asked for."""
        bounds = self._row_bounds
        at = start
        while at < stop:
            outer, inner = divmod(at, bounds[-1])
            part = bisect_right(bounds, inner) - 1
            height = bounds[part + 1] - bounds[part]
            first = outer * height + inner - bounds[part]
            count = min(bounds[part + 1] - inner, stop - at)
            yield part, first, first + count, at - start
            at += count

    def sources(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.sources()

    def readable(self) -> bool:
        return all(part.readable() for part in self.parts)

    def index(self, index: FullIndex) -> Node:
        at = [n for n, item in enumerate(index) if item is not None][self.axis]
        item = index[at]
        bounds = [0, *accumulate(p.shape[self.axis] for p in self.parts)]
        if isinstance(item, int):
            number = bisect_right(bounds, item) - 1
            return self.parts[number].index((*index[:at], item - bounds[number], *index[at + 1 :]))
        assert isinstance(item, slice)
        kept = []
        for part, low, high in zip(self.parts, bounds, bounds[1:], strict=False):
            first, last = max(item.start, low), min(item.stop, high)
            if first < last:
                kept.append(part.index((*index[:at], slice(first - low, last - low), *index[at + 1 :])))
        if not kept:
            raise TensorError("an empty slice of a concatenation")
        axis = sum(not isinstance(i, int) for i in index[:at])
        return concatenated(kept, axis)

    def permute(self, order: Shape) -> Node:
        return Concat(tuple(p.permute(order) for p in self.parts), order.index(self.axis))


@dataclass(frozen=True)
class Reshape(Reshaping):
    """The same elements in row-major order under another shape."""

    def rows(self, start: int, stop: int) -> Array:
        length, child_length = row_length(self.shape), row_length(self.child.shape)
        if length == child_length:
            return self.child.rows(start, stop)
        first, last = start * length, stop * length
        low, high = first // child_length, -(-last // child_length)
        flat = self.child.rows(low, high).reshape(-1)
        return flat[first - low * child_length : last - low * child_length].reshape(-1, length)

    def index(self, index: FullIndex) -> Node:
        if indexed_shape(self.shape, index) == self.shape:
            return self
        raise TensorError("cannot slice after this reshape lazily", hint="slice first, then reshape")

    def permute(self, order: Shape) -> Node:
        if order == tuple(range(len(order))):
            return self
        raise TensorError("cannot transpose after this reshape lazily", hint="transpose first, then reshape")


@dataclass(frozen=True)
class RowFunction:
    """A function of the same rows of several nodes that share their leading axes (decoders, for one)."""

    function: Callable[..., Array]
    children: tuple[Node, ...]
    columns: int
    dtype: DType

    @property
    def shape(self) -> Shape:
        return (*self.children[0].shape[:-1], self.columns)

    def rows(self, start: int, stop: int) -> Array:
        return self.function(*(child.rows(start, stop) for child in self.children))

    def sources(self) -> Iterator[str]:
        for child in self.children:
            yield from child.sources()

    def readable(self) -> bool:
        return all(child.readable() for child in self.children)

    def index(self, index: FullIndex) -> Node:
        if index[-1] != slice(0, self.columns):
            raise TensorError("cannot slice the last axis of a decoded tensor lazily")
        children = tuple(c.index((*index[:-1], slice(0, c.shape[-1]))) for c in self.children)
        return RowFunction(self.function, children, self.columns, self.dtype)

    def permute(self, order: Shape) -> Node:
        if order[-1] != len(order) - 1:
            raise TensorError("cannot move the last axis of a decoded tensor lazily")
        return RowFunction(self.function, tuple(c.permute(order) for c in self.children), self.columns, self.dtype)


def map_rows(function: Callable[..., Array], tensors: Sequence[Tensor], columns: int, dtype: DType) -> Tensor:
    """A tensor whose rows are `function` of the same rows of `tensors`: (n, k_i) arrays -> (n, columns)."""
    leading = {t.shape[:-1] for t in tensors}
    if len(leading) != 1:
        raise TensorError(f"leading axes differ: {sorted(leading)}")
    return Tensor(RowFunction(function, tuple(t.node for t in tensors), columns, dtype))


def binary(operation: str, child: Node, operand: Node | float | Array) -> Node:
    if isinstance(operand, np.ndarray) and operand.ndim == 0:
        operand = float(operand)
    if isinstance(operand, float | int):
        return Binary(operation, child, operand)
    node: Node = Constant(operand) if isinstance(operand, np.ndarray) else operand
    shape = np.broadcast_shapes(child.shape, node.shape)
    return Binary(operation, _broadcast(child, shape), _broadcast(node, shape))


def _broadcast(node: Node, shape: Shape) -> Node:
    if node.shape == shape:
        return node
    return Broadcast(reshaped(node, (1,) * (len(shape) - len(node.shape)) + node.shape), shape)


def concatenated(parts: list[Node], axis: int) -> Node:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for part in parts[1:]:
        if part.dtype != first.dtype:
            raise TensorError(f"cannot join {first.dtype} and {part.dtype}")
        if _without(part.shape, axis) != _without(first.shape, axis):
            raise TensorError(f"cannot join shapes {first.shape} and {part.shape} along axis {axis}")
    return Concat(tuple(parts), axis)


def reshaped(node: Node, shape: Shape) -> Node:
    """`node` under another shape of the same size, as a view of the stored bytes if that is possible."""
    from convx.storage import View

    if node.shape == shape:
        return node
    if isinstance(node, View) and (view := node.reshaped(shape)) is not None:
        return view
    if isinstance(node, Cast):
        return Cast(reshaped(node.child, shape), node.dtype)
    if isinstance(node, Binary) and isinstance(node.operand, float | int):
        return Binary(node.operation, reshaped(node.child, shape), node.operand)
    if isinstance(node, Constant):
        return Constant(node.array.reshape(shape))
    if isinstance(node, Reshape):
        return reshaped(node.child, shape)
    return Reshape(node, shape)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]
