"""How mlx chooses scales and codes, as tables over bit patterns.

The rule of `mx.quantize(mode="mxfp4")` for a group with largest magnitude `amax`, in the type T of the
weights (bf16, fp16 or fp32):

    r = amax / 6, rounded to T
    k = ceil(log2(r)), or 0 where r = 0          the scale is 2^k, its byte (k + 127) mod 256
    code of w = the E2M1 value nearest to w / 2^k; halfway, the smaller magnitude; zero is never negative

The modulus matters only where amax < 6 * 2^-127: mlx wraps there, and so does this.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from convx.dtypes import F32, DType
from convx.formats import Array
from convx_mxfp4.format import MAGNITUDES

LARGEST = np.float32(MAGNITUDES[-1])
MIDPOINTS = np.array([(a + b) / 2 for a, b in pairwise(MAGNITUDES)])
"""(7,) float64: w takes code j + 1 or more where |w / 2^k| exceeds midpoint j."""


@dataclass(frozen=True)
class Tables:
    """For a 16-bit float type, whose magnitudes are the integers 0 to 32767 in the same order.

    rows: (32768,) int16, amax -> row of the other two.
    thresholds: (rows, 7) int16, the largest magnitude that does not yet exceed each midpoint.
    scales: (rows,) uint8, the byte stored.
    """

    rows: Array
    thresholds: Array
    scales: Array


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
    """The tables of bf16 or fp16."""
    with np.errstate(invalid="ignore", over="ignore"):
        k = exponents(np.arange(1 << 15, dtype=np.uint16).view(dtype))
        every_k = np.arange(k.min(), k.max() + 1, dtype=np.int32)
        thresholds = _floor(np.ldexp(MIDPOINTS[None, :], every_k[:, None]), dtype)
    return Tables((k - k.min()).astype(np.int16), thresholds, scale_bytes(every_k))


def _floor(values: Array, dtype: DType) -> Array:
    """Positive float64 -> bit patterns, as int16, of the largest numbers of `dtype` not above them."""
    nearest = values.astype(dtype)
    above = nearest.astype(np.float64) > values
    return nearest.view(np.int16) - above.astype(np.int16)
