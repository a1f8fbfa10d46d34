"""Compiled MXFP4 encoding. Imports numba: import it only where an encoder runs.

Casts after each operation keep numba from widening integers to 64 bits, and vectors with them.
"""

from __future__ import annotations

import numpy as np
from numba import types

from convx.backend import compiled, flat_bits, jit
from convx.dtypes import F32
from convx.formats import Array
from convx.loops import BLOCK, largest_magnitudes, pack4, read, write
from convx_mxfp4 import rules
from convx_mxfp4.format import GROUP

GROUPS = BLOCK // GROUP


def encode(tile: Array, words: Array, scales: Array) -> None:
    """Encode a contiguous tile into flat `words` (uint32, 8 codes each) and `scales` (uint8, one a group)."""
    if tile.dtype == F32:
        maxima = np.empty(scales.size, F32)
        maxima_32(flat_bits(tile), flat_bits(maxima))
        k = rules.exponents(maxima)
        scales[:] = rules.scale_bytes(k)
        encode_32(tile.reshape(-1), np.ldexp(np.float32(1), k), words)
    else:
        table = rules.tables(tile.dtype)
        encode_16(flat_bits(tile), table.rows, table.thresholds, table.scales, words, scales)


@jit
def _codes_16(bits: Array, limits: Array, codes: Array) -> None:
    """One group of bf16 or fp16 bit patterns -> codes, by a row of `rules.Tables.thresholds`."""
    t0, t1, t2, t3, t4, t5, t6 = limits[0], limits[1], limits[2], limits[3], limits[4], limits[5], limits[6]
    for i in range(GROUP):
        w = bits[i]
        a = np.int16(w & np.int16(0x7FFF))
        low = np.uint8(np.uint8(a > t0) + np.uint8(a > t1) + np.uint8(a > t2) + np.uint8(a > t3))
        high = np.uint8(np.uint8(a > t4) + np.uint8(a > t5) + np.uint8(a > t6))
        sign = np.uint8(8) if (w < 0) & (a > t0) else np.uint8(0)
        codes[i] = np.uint8(low + high) | sign


@compiled(
    types.void(
        read(types.int16),
        read(types.int16),
        read(types.int16, 2),
        read(types.uint8),
        write(types.uint32),
        write(types.uint8),
    )
)
def encode_16(bits: Array, rows: Array, thresholds: Array, table: Array, words: Array, scales: Array) -> None:
    """bf16 or fp16 bit patterns -> words and scales, by the tables of `rules.Tables`."""
    codes = np.empty(BLOCK, np.uint8)
    a, b = np.empty(BLOCK // 2, np.int16), np.empty(BLOCK // 2, np.int16)
    for first in range(0, scales.size, GROUPS):
        groups = min(GROUPS, scales.size - first)
        block = bits[first * GROUP : (first + groups) * GROUP]
        maxima = largest_magnitudes(block, np.int16(0x7FFF), a, b, groups)
        for g in range(groups):
            row = rows[maxima[g]]
            scales[first + g] = table[row]
            run = slice(g * GROUP, (g + 1) * GROUP)
            _codes_16(block[run], thresholds[row], codes[run])
        start = first * GROUP // 8
        pack4(codes[: groups * GROUP], words[start : start + groups * GROUP // 8])


@compiled(types.void(read(types.int32), write(types.int32)))
def maxima_32(bits: Array, maxima: Array) -> None:
    """float32 bit patterns -> those of the largest magnitude of each group."""
    a, b = np.empty(BLOCK // 2, np.int32), np.empty(BLOCK // 2, np.int32)
    for first in range(0, maxima.size, GROUPS):
        groups = min(GROUPS, maxima.size - first)
        block = bits[first * GROUP : (first + groups) * GROUP]
        found = largest_magnitudes(block, np.int32(0x7FFFFFFF), a, b, groups)
        maxima[first : first + groups] = found[:groups]


@jit
def _codes_32(values: Array, divisor: np.float32, codes: Array) -> None:
    """One group of float32 -> codes."""
    for i in range(GROUP):
        x = values[i] / divisor
        a = abs(x)
        low = np.uint8(np.uint8(a > 0.25) + np.uint8(a > 0.75) + np.uint8(a > 1.25) + np.uint8(a > 1.75))
        high = np.uint8(np.uint8(a > 2.5) + np.uint8(a > 3.5) + np.uint8(a > 5.0))
        sign = np.uint8(8) if x < -0.25 else np.uint8(0)
        codes[i] = np.uint8(low + high) | sign


@compiled(types.void(read(types.float32), read(types.float32), write(types.uint32)))
def encode_32(values: Array, divisors: Array, words: Array) -> None:
    """float32 and one divisor a group -> words."""
    codes = np.empty(BLOCK, np.uint8)
    for first in range(0, divisors.size, GROUPS):
        groups = min(GROUPS, divisors.size - first)
        for g in range(groups):
            source = values[(first + g) * GROUP : (first + g + 1) * GROUP]
            _codes_32(source, divisors[first + g], codes[g * GROUP : (g + 1) * GROUP])
        start = first * GROUP // 8
        pack4(codes[: groups * GROUP], words[start : start + groups * GROUP // 8])
