"""What the fast paths of the number formats share: which backend to use, lazy compilation, array views.

A format has two paths that give the same bytes: compiled loops (`numba`) and the mlx functions (`mlx`).
`CONVX_BACKEND=numba|mlx` chooses; by default loops run where mlx has only a CPU, and mlx does where it has
a GPU. Nothing here knows a number format.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from convx.dtypes import BF16, F16, F32, DType
from convx.errors import TensorError, UsageError
from convx.formats import Array, Format

P = ParamSpec("P")
R = TypeVar("R")

ENCODABLE: frozenset[DType] = frozenset({BF16, F16, F32})
"""Types of tiles that formats encode."""

MLX_MULTIPLE = 32
"""mlx fails on an odd number of nvfp4 groups; a row of zeros is added then."""

MLX_CHUNK = 1 << 20
"""Elements handed to mlx at once: its fallbacks for the FP4 modes need 64 bytes and more per element."""


@functools.cache
def has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def uses_numba() -> bool:
    """True for the compiled loops, False for mlx. Reads `CONVX_BACKEND` at every call."""
    choice = os.environ.get("CONVX_BACKEND", "")
    if choice not in ("", "numba", "mlx"):
        raise UsageError(f"CONVX_BACKEND={choice} is no backend", hint="use numba or mlx, or unset it")
    if choice == "mlx" or (not choice and _mlx_has_gpu()):
        return False
    if not has_numba():
        _warn_no_numba()
        return False
    return True


@functools.cache
def _mlx_has_gpu() -> bool:
    import mlx.core as mx

    return bool(mx.default_device().type == mx.DeviceType.gpu)


@functools.cache
def _warn_no_numba() -> None:
    message = "numba is not installed: encoding with mlx, which is much slower on a CPU (pip install numba)"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """A helper of compiled loops, compiled into each of its callers."""
    import numba

    return cast(Callable[P, R], numba.njit(function, nogil=True, error_model="numpy", forceinline=True))


def compiled(signature: object) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Compile a loop for one numba signature when it is first called; it runs without the GIL.

    The machine code is kept in numba's cache, or compiled by each process where no folder is writable.
    """

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        lock = threading.Lock()
        ready: list[Callable[P, None]] = []

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> None:
            if not ready:
                with lock:
                    if not ready:
                        ready.append(_compile(function, signature))
            ready[0](*args, **kwargs)

        return call

    return decorate


def _compile(function: Callable[P, None], signature: object) -> Callable[P, None]:
    import numba

    options = {"nogil": True, "error_model": "numpy"}  # division by zero gives infinity, as in mlx
    try:
        return cast(Callable[P, None], numba.njit(signature, cache=True, **options)(function))
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return cast(Callable[P, None], numba.njit(signature, **options)(function))


def checked_tile(tile: Array, format_: Format) -> Array:
    """The tile, contiguous. Raises TensorError if the format cannot encode it."""
    if tile.dtype not in ENCODABLE:
        message = f"{format_.name} encodes bf16, fp16 and fp32, not {tile.dtype}"
        raise TensorError(message, hint="cast it first")
    reason = format_.refusal(tile.shape)
    if reason is not None or tile.ndim != 2:
        reason = reason or "a tile has two axes"
        raise TensorError(f"a tile of shape {tile.shape} cannot be {format_.spec}: {reason}")
    return np.ascontiguousarray(tile)


def empty_parts(tile: Array, format_: Format) -> tuple[Array, ...]:
    """Uninitialised arrays for the encoded tile: (rows, part.columns) each."""
    rows, columns = tile.shape
    return tuple(np.empty((rows, p.columns), p.dtype) for p in format_.parts(columns, tile.dtype))


def flat_bits(array: Array) -> Array:
    """The elements' bit patterns as one axis of signed integers of the same width; no copy."""
    return array.reshape(-1).view(np.dtype(f"i{array.dtype.itemsize}"))


def to_mlx(array: Array) -> Any:  # noqa: ANN401
    """The same array in mlx. numpy has no bfloat16 of its own, so those travel as uint16."""
    import mlx.core as mx

    if array.dtype == BF16:
        return mx.array(array.view(np.uint16)).view(mx.bfloat16)
    return mx.array(array)


def from_mlx(array: Any) -> Array:  # noqa: ANN401
    """The same array in numpy, bfloat16 as ml_dtypes has it."""
    import mlx.core as mx

    if array.dtype == mx.bfloat16:
        return cast(Array, np.array(array.view(mx.uint16)).view(BF16))
    return cast(Array, np.array(array))


def encode_with_mlx(tile: Array, format_: Format) -> tuple[Array, ...]:
    """Encode with `mx.quantize`, some rows at a time. Defines the bytes that faster code must give."""
    import mlx.core as mx

    tile = checked_tile(tile, format_)
    parts = empty_parts(tile, format_)
    step = 2 * max(1, MLX_CHUNK // (2 * tile.shape[1]))
    for start in range(0, len(tile), step):
        chunk = tile[start : start + step]
        odd = chunk.size % MLX_MULTIPLE != 0
        encoded = mx.quantize(to_mlx(_extended(chunk) if odd else chunk), **_options(format_))
        for part, values in zip(parts, encoded, strict=True):
            part[start : start + step] = from_mlx(values)[: len(chunk)]
    return parts


def _extended(rows: Array) -> Array:
    return np.concatenate([rows, np.zeros_like(rows[:1])])


def decode_with_mlx(parts: tuple[Array, ...], format_: Format) -> Array:
    """Decode with `mx.dequantize` in float32: float scales and biases are widened first."""
    import mlx.core as mx

    rows, size = len(parts[0]), parts[1].size * format_.group_size
    if rows == 0:
        return np.empty((0, parts[1].shape[1] * format_.group_size), F32)
    wide = [part.astype(F32) if part.dtype in ENCODABLE else part for part in parts]
    if size % MLX_MULTIPLE:
        wide = [_extended(part) for part in wide]
    options = {**_options(format_), "dtype": mx.float32}
    return from_mlx(mx.dequantize(*map(to_mlx, wide), **options))[:rows]


def _options(format_: Format) -> dict[str, Any]:
    return {"group_size": format_.group_size, "bits": format_.bits, "mode": format_.mode}
