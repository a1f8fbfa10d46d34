"""How mlx chooses the scale of a group.

The rule of `mx.quantize(mode="mxfp8")` for a group with largest magnitude `amax`, in the type T of the
weights (bf16, fp16 or fp32):

    r = amax / 448, rounded to T
    k = ceil(log2(r)), or 0 where r = 0          the scale is 2^k, its byte (k + 127) mod 256
    code of w = w / 2^k rounded to E4M3, to nearest even, at most 448; the sign of zero is kept

The modulus matters only where amax < 448 * 2^-127: mlx wraps there, and so does this.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from convx.dtypes import F16, F32, DType
from convx.formats import Array

LARGEST = np.float32(448)


@dataclass(frozen=True)
class Tables:
    """For a 16-bit float type, whose magnitudes are the integers 0 to 32767 in the same order.

    rows: (32768,) int16, amax -> row of the other two.
    divisors: (rows,) float32, such that float(magnitude << shift) / divisor = |w| / 2^k.
    scales: (rows,) uint8, the byte stored.
    shift: puts the exponent of the type where float32 has it.
    """

    rows: Array
    divisors: Array
    scales: Array
    shift: int


def exponents(amax: Array) -> Array:
    """k for each largest magnitude, computed in the array's own type -> int32."""
    ratio = (amax.astype(F32) / LARGEST).astype(amax.dtype).astype(F32)
    mantissa, exponent = np.frexp(ratio)
    k = np.where(mantissa == 0.5, exponent - 1, exponent)
    return np.where((ratio > 0) & np.isfinite(ratio), k, 0).astype(np.int32)


def scale_bytes(k: Array) -> Array:
    return ((k + 127) & 255).astype(np.uint8)


@functools.cache
def tables(dtype: DType) -> Tables:
    """The tables of bf16 or fp16. An fp16 number shifted into a float32 is 2^112 times too small, for the
    exponent biases are 15 and 127."""
    with np.errstate(invalid="ignore", over="ignore"):
        k = exponents(np.arange(1 << 15, dtype=np.uint16).view(dtype))
    every_k = np.arange(k.min(), k.max() + 1, dtype=np.int32)
    bias, shift = (112, 13) if dtype == F16 else (0, 16)
    divisors = np.ldexp(np.float32(1), every_k - bias)
    return Tables((k - k.min()).astype(np.int16), divisors, scale_bytes(every_k), shift)
