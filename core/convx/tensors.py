"""Lazy tensors: an expression over stored bytes, readable a range of rows at a time.

A `Tensor` knows its shape and dtype and how to compute any range of its rows; it never holds data.
A *row* is a run along the last axis, and rows are numbered over the flattened leading axes, so a
tensor of shape (E, R, K) has E*R rows of K elements. `sanitize` hooks write in the vocabulary of
numpy and mlx: `w[..., :n, :]`, `w.transpose(0, 2, 1)`, `w.astype(...)`, `w + 1.0`, `stack`, `split`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from convx.dtypes import BY_NAME, SPEC_NAMES, DType
from convx.errors import TensorError

if TYPE_CHECKING:
    from convx.nodes import Node

Array = np.ndarray[Any, Any]
Index = int | slice | EllipsisType | None


def row_count(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])


def row_length(shape: tuple[int, ...]) -> int:
    return shape[-1] if shape else 1


def as_dtype(dtype: DType | str) -> DType:
    """A numpy dtype from itself, a safetensors name (`BF16`) or a plain name (`bf16`, `float32`)."""
    if isinstance(dtype, np.dtype):
        return dtype
    found = BY_NAME.get(dtype) or SPEC_NAMES.get(dtype)
    if found is None:
        raise TensorError(f"unknown dtype {dtype!r}", hint=f"known: {', '.join(SPEC_NAMES)}")
    return found


@dataclass(frozen=True)
class Tensor:
    """A lazy tensor. Immutable; every operation gives a new one that shares the stored bytes."""

    node: Node

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def dtype(self) -> DType:
        return self.node.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stored tensors that this one is computed from, in reading order."""
        return tuple(dict.fromkeys(self.node.sources()))

    @property
    def readable(self) -> bool:
        """False for tensors that are only declared (planned from a config), which have no bytes."""
        return self.node.readable()

    def rows(self, start: int, stop: int) -> Array:
        """Read rows [start, stop) -> (stop - start, last axis), of this tensor's dtype."""
        if not 0 <= start <= stop <= row_count(self.shape):
            raise TensorError(f"rows {start}:{stop} outside {row_count(self.shape)} rows of shape {self.shape}")
        return self.node.rows(start, stop)

    def read(self) -> Array:
        """The whole tensor, as an array of its shape. For small tensors and tests."""
        return self.rows(0, row_count(self.shape)).reshape(self.shape)

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Tensor:
        """Basic slicing with step 1: integers, slices, `...` and None."""
        return Tensor(self.node.index(expand_index(index, self.shape)))

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """Permute the axes; with no arguments, reverse them."""
        order = _flat_axes(axes) or tuple(reversed(range(self.ndim)))
        order = tuple(_axis(a, self.ndim) for a in order)
        if sorted(order) != list(range(self.ndim)):
            raise TensorError(f"transpose{order} is no permutation of {self.ndim} axes")
        return Tensor(self.node.permute(order))

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def swapaxes(self, a: int, b: int) -> Tensor:
        order = list(range(self.ndim))
        a, b = _axis(a, self.ndim), _axis(b, self.ndim)
        order[a], order[b] = order[b], order[a]
        return self.transpose(*order)

    def moveaxis(self, source: int, target: int) -> Tensor:
        order = list(range(self.ndim))
        order.insert(_axis(target, self.ndim), order.pop(_axis(source, self.ndim)))
        return self.transpose(*order)

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements in row-major order under another shape; one axis may be -1."""
        from convx.shaping import reshaped

        return Tensor(reshaped(self.node, _resolve_shape(_flat_axes(shape), self.size)))

    def squeeze(self, axis: int) -> Tensor:
        axis = _axis(axis, self.ndim)
        if self.shape[axis] != 1:
            raise TensorError(f"axis {axis} of shape {self.shape} is not of length 1")
        return self.reshape(*self.shape[:axis], *self.shape[axis + 1 :])

    def expand_dims(self, axis: int) -> Tensor:
        axis = _axis(axis, self.ndim + 1)
        return self.reshape(*self.shape[:axis], 1, *self.shape[axis:])

    def astype(self, dtype: DType | str) -> Tensor:
        """Cast, rounding to nearest even. An overflow of finite values is reported when it is read."""
        from convx.nodes import Cast

        target = as_dtype(dtype)
        return self if target == self.dtype else Tensor(Cast(self.node, target))

    def __add__(self, other: Operand) -> Tensor:
        return self._binary("add", other)

    def __sub__(self, other: Operand) -> Tensor:
        return self._binary("subtract", other)

    def __mul__(self, other: Operand) -> Tensor:
        return self._binary("multiply", other)

    def __truediv__(self, other: Operand) -> Tensor:
        return self._binary("divide", other)

    __radd__ = __add__
    __rmul__ = __mul__

    def _binary(self, operation: str, other: Operand) -> Tensor:
        from convx.shaping import binary

        operand = other.node if isinstance(other, Tensor) else other
        return Tensor(binary(operation, self.node, operand))


Operand = Tensor | float | Array


def concatenate(tensors: Iterable[Tensor], axis: int = 0) -> Tensor:
    """Join along an existing axis."""
    from convx.shaping import concatenated

    parts = [t.node for t in tensors]
    if not parts:
        raise TensorError("nothing to concatenate")
    return Tensor(concatenated(parts, _axis(axis, len(parts[0].shape))))


def stack(tensors: Iterable[Tensor], axis: int = 0) -> Tensor:
    """Join along a new axis."""
    parts = list(tensors)
    if not parts:
        raise TensorError("nothing to stack")
    axis = _axis(axis, parts[0].ndim + 1)
    return concatenate([t.expand_dims(axis) for t in parts], axis)


def split(tensor: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut along an axis: into equal sections, or at the given indices (as numpy and mlx do)."""
    axis = _axis(axis, tensor.ndim)
    length = tensor.shape[axis]
    if isinstance(sections, int):
        if length % sections:
            raise TensorError(f"axis {axis} of shape {tensor.shape} does not split into {sections}")
        step = length // sections
        sections = list(range(step, length, step))
    bounds = [0, *sections, length]
    before = (slice(None),) * axis
    return [tensor[(*before, slice(a, b))] for a, b in pairwise(bounds)]


def _axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise TensorError(f"axis {axis} outside {ndim} axes")
    return axis % ndim


def _flat_axes(axes: Sequence[int | Sequence[int]]) -> tuple[int, ...]:
    if len(axes) == 1 and not isinstance(axes[0], int):
        return tuple(axes[0])
    return tuple(a for a in axes if isinstance(a, int))


def _resolve_shape(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and known and size % known == 0:
        shape = tuple(size // known if n == -1 else n for n in shape)
    if math.prod(shape) != size or min(shape, default=0) < 0:
        raise TensorError(f"{size} elements do not reshape to {shape}")
    return shape


def expand_index(index: Any, shape: tuple[int, ...]) -> tuple[int | slice | None, ...]:  # noqa: ANN401
    """Basic indices -> one entry an axis: an int, or a slice with resolved bounds and step 1; None adds one."""
    items = list(index) if isinstance(index, tuple) else [index]
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > len(shape):
        raise TensorError(f"too many indices for shape {shape}")
    fill: list[Any] = [slice(None)] * (len(shape) - used)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = fill
    else:
        items += fill
    out: list[int | slice | None] = []
    axis = 0
    for item in items:
        if item is None:
            out.append(None)
            continue
        out.append(_axis_index(item, shape[axis]))
        axis += 1
    return tuple(out)


def _axis_index(item: Any, length: int) -> int | slice:  # noqa: ANN401
    if isinstance(item, slice):
        start, stop, step = item.indices(length)
        if step != 1:
            raise TensorError("only slices with step 1 are lazy")
        return slice(start, max(start, stop))
    if isinstance(item, int | np.integer):
        if not -length <= item < length:
            raise TensorError(f"index {item} outside an axis of length {length}")
        return int(item) % length
    raise TensorError(f"cannot index a lazy tensor by {type(item).__name__}", hint="use ints, slices, ..., None")
