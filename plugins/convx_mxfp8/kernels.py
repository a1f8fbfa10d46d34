"""Compiled MXFP8 encoding. Imports numba: import it only where an encoder runs.

Casts after each operation keep numba from widening integers to 64 bits, and vectors with them.
"""

from __future__ import annotations

import numpy as np
from numba import types

from convx.backend import compiled, flat_bits, jit
from convx.dtypes import F32
from convx.formats import Array
from convx.loops import BLOCK, largest_magnitudes, read, write
from convx_mxfp8 import rules
from convx_mxfp8.format import GROUP

SMALLEST_NORMAL = np.uint32(121 << 23)
"""float32 bits of 2^-6, the smallest normal E4M3 number."""
UNIT = np.float32(1 << 14)
"""Added to a smaller number, it leaves a multiple of 2^-9, the E4M3 subnormal spacing, in the low bits."""
UNIT_BITS = np.uint32(141 << 23)
REBIAS = np.uint32(120 << 3)
"""The difference of the exponent biases, 127 - 7, above three bits of significand."""
LARGEST_CODE = np.uint32(0x7E)

GROUPS = BLOCK // GROUP


def encode(tile: Array, codes: Array, scales: Array) -> None:
    """Encode a contiguous tile into flat `codes` (uint8, one a weight) and `scales` (uint8, one a group)."""
    if tile.dtype == F32:
        maxima = np.empty(scales.size, F32)
        maxima_32(flat_bits(tile), flat_bits(maxima))
        k = rules.exponents(maxima)
        scales[:] = rules.scale_bytes(k)
        encode_32(flat_bits(tile), np.ldexp(np.float32(1), k), codes)
    else:
        table = rules.tables(tile.dtype)
        encode_16(flat_bits(tile), table.rows, table.divisors, table.scales, table.shift, codes, scales)


@jit
def _e4m3(x: np.float32) -> np.uint32:
    """Code of a non-negative float32, to nearest even and at most 448. Either way of rounding is computed
    and one is kept: below 2^-6 the spacing is constant, above it follows the exponent."""
    bits = np.float32(x).view(np.uint32)
    odd = np.uint32(np.uint32(bits >> np.uint32(20)) & np.uint32(1))
    rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFFF)) + odd)
    normal = np.uint32(np.uint32(rounded >> np.uint32(20)) - REBIAS)
    subnormal = np.uint32(np.float32(x + UNIT).view(np.uint32) - UNIT_BITS)
    code = subnormal if bits < SMALLEST_NORMAL else normal
    return code if code < LARGEST_CODE else LARGEST_CODE


@jit
def _codes_16(bits: Array, divisor: np.float32, shift: int, codes: Array) -> None:
    """One group of bf16 or fp16 bit patterns -> codes, by the terms of `rules.Tables`."""
    for i in range(GROUP):
        w = bits[i]
        a = np.uint32(np.uint32(w & np.int16(0x7FFF)) << np.uint32(shift))
        sign = np.uint8(0x80) if w < 0 else np.uint8(0)
        codes[i] = np.uint8(_e4m3(a.view(np.float32) / divisor)) | sign


@compiled(
    types.void(
        read(types.int16),
        read(types.int16),
        read(types.float32),
        read(types.uint8),
        types.uint32,
        write(types.uint8),
        write(types.uint8),
    )
)
def encode_16(bits: Array, rows: Array, divisors: Array, table: Array, shift: int, codes: Array, scales: Array) -> None:
    """bf16 or fp16 bit patterns -> codes and scales, by the tables of `rules.Tables`."""
    a, b = np.empty(BLOCK // 2, np.int16), np.empty(BLOCK // 2, np.int16)
    for first in range(0, scales.size, GROUPS):
        groups = min(GROUPS, scales.size - first)
        block = bits[first * GROUP : (first + groups) * GROUP]
        maxima = largest_magnitudes(block, np.int16(0x7FFF), a, b, groups)
        for g in range(groups):
            row = rows[maxima[g]]
            scales[first + g] = table[row]
            run = slice((first + g) * GROUP, (first + g + 1) * GROUP)
            _codes_16(bits[run], divisors[row], shift, codes[run])


@compiled(types.void(read(types.int32), write(types.int32)))
def maxima_32(bits: Array, maxima: Array) -> None:
    """float32 bit patterns -> those of the largest magnitude of each group."""
    a, b = np.empty(BLOCK // 2, np.int32), np.empty(BLOCK // 2, np.int32)
    for first in range(0, maxima.size, GROUPS):
        groups = min(GROUPS, maxima.size - first)
        block = bits[first * GROUP : (first + groups) * GROUP]
        found = largest_magnitudes(block, np.int32(0x7FFFFFFF), a, b, groups)
        maxima[first : first + groups] = found[:groups]


@compiled(types.void(read(types.int32), read(types.float32), write(types.uint8)))
def encode_32(bits: Array, divisors: Array, codes: Array) -> None:
    """float32 bit patterns and one divisor a group -> codes."""
    for g in range(divisors.size):
        run = slice(g * GROUP, (g + 1) * GROUP)
        source, target, divisor = bits[run], codes[run], divisors[g]
        for i in range(GROUP):
            w = source[i]
            a = np.uint32(w & np.int32(0x7FFFFFFF))
            sign = np.uint8(0x80) if w < 0 else np.uint8(0)
            target[i] = np.uint8(_e4m3(a.view(np.float32) / divisor)) | sign
