"""How mlx chooses scales and codes, as tables over bit patterns.

The rule of `mx.quantize(mode="nvfp4")` for a group with largest magnitude `amax`, in the type T of the
weights (bf16, fp16 or fp32):

    s = amax / 6, rounded to T, then to E4M3 (to nearest even, at most 448)
    q = w / s, rounded to T
    code of w = the first E2M1 value v, in the order of the codes, with the least |q - v| in float32

So halfway the smaller magnitude wins, zero is never negative, and a group with s = 0 (amax < 0.0059) is
all zeros: w / 0 is equally far from every value. So is a q that float32 cannot tell from q - 6.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise

import ml_dtypes
import numpy as np

from convx.dtypes import F32, DType
from convx.formats import Array
from convx_nvfp4.format import E4M3, MAGNITUDES

LARGEST = np.float32(MAGNITUDES[-1])
LARGEST_SCALE = np.float32(448)

MIDPOINTS = np.array([(a + b) / 2 for a, b in pairwise(MAGNITUDES)])
"""(7,) float64: w takes code j + 1 or more where |q| exceeds midpoint j."""

LARGEST_BYTE = 0x7E
"""The E4M3 byte of 448."""

BLURRED = 448.0 * 2**24
"""Larger weights may have q > 2^24, where float32 differences between q and the values begin to tie, and
the code need not be that of the nearest value: midpoints do not tell it."""


@dataclass(frozen=True)
class Tables:
    """For a 16-bit float type, whose magnitudes are the integers 0 to 32767 in the same order.

    scales: (32768,) uint8, amax -> E4M3 byte.
    thresholds: (127, 7) int16, by that byte: the largest magnitude that does not yet exceed each midpoint.
    """

    scales: Array
    thresholds: Array


def scale_bytes(amax: Array) -> Array:
    """E4M3 byte for each largest magnitude, computed in the array's own type. NaN counts as infinity."""
    ratio = (amax.astype(F32) / LARGEST).astype(amax.dtype).astype(F32)
    scales: Array = np.fmin(ratio, LARGEST_SCALE).astype(ml_dtypes.float8_e4m3fn)
    return scales.view(np.uint8)


def divisors(scales: Array) -> Array:
    """E4M3 bytes -> float32 to divide by, infinity for zero: the codes of such a group are 0."""
    values = np.array(E4M3[scales])
    values[values == 0] = np.inf
    return values


@functools.cache
def tables(dtype: DType) -> Tables:
    """The tables of bf16 or fp16.

    q exceeds a midpoint m exactly where w / s exceeds m and half the spacing above m: all midpoints have an
    even significand, so a tie rounds down to them. The product with s is exact in float64.
    """
    half_spacing = np.ldexp(float(ml_dtypes.finfo(dtype).eps) / 2, np.frexp(MIDPOINTS)[1] - 1)
    scales = E4M3[:127].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        thresholds = _floor(scales[:, None] * (MIDPOINTS + half_spacing), dtype)
        table = scale_bytes(np.arange(1 << 15, dtype=np.uint16).view(dtype))
    thresholds[0] = 0x7FFF
    return Tables(table, thresholds)


def _floor(values: Array, dtype: DType) -> Array:
    """Positive float64 -> bit patterns, as int16, of the largest numbers of `dtype` not above them."""
    nearest = values.astype(dtype)
    above = nearest.astype(np.float64) > values
    return nearest.view(np.int16) - above.astype(np.int16)
