"""Compiled affine encoding. Imports numba: import it only where an encoder runs.

The rule of `mx.quantize(mode="affine")` for a group, all in float32 whatever the type of the weights:

    edge = the extreme of larger magnitude, the maximum where they are equal
    s = max((maximum - minimum) / (2^bits - 1), 1e-7), negative unless the edge is the minimum
    q0 = edge / s, rounded to an integer         the code distance of the edge from zero
    scale, bias = edge / q0, edge, or s, 0 where q0 = 0
    code = (w - bias) / scale, rounded to nearest even, kept within 0 and 2^bits - 1

Only then are scale and bias rounded to the type of the weights, so codes belong to the unrounded ones.
Casts after each operation keep numba from widening integers to 64 bits, and vectors with them.
"""

from __future__ import annotations

import numpy as np
from numba import types

from convx.backend import compiled, flat_bits, jit
from convx.dtypes import F16, F32
from convx.formats import Array
from convx.loops import BLOCK, fold_max, pack4, read, write

EPS = np.float32(1e-7)
RUN = 32
"""Length of the inner loops: every group size is a multiple of it."""


def encode(tile: Array, bits: int, words: Array, scales: Array, biases: Array) -> None:
    """Encode a contiguous tile into flat `words` (uint32), `scales` and `biases` (of the tile's type)."""
    wide = np.empty((2, scales.size), F32)
    if tile.dtype == F32:
        encode_32(tile.reshape(-1), bits, words, wide[0], wide[1])
    else:
        shift, unit = (13, 2.0**112) if tile.dtype == F16 else (16, 1.0)
        encode_16(flat_bits(tile), shift, unit, bits, words, wide[0], wide[1])
    with np.errstate(over="ignore"):
        scales[:], biases[:] = wide.astype(tile.dtype)


@jit
def _terms(low: np.float32, high: np.float32, steps: np.float32) -> tuple[np.float32, np.float32]:
    """Extremes of a group -> scale and bias, float32."""
    from_low = abs(low) > abs(high)
    scale = (high - low) / steps
    scale = scale if scale > EPS else EPS
    scale = scale if from_low else -scale
    edge = low if from_low else high
    q0 = np.rint(edge / scale)
    return (edge / q0, edge) if q0 != 0 else (scale, np.float32(0))


@jit
def _codes(values: Array, scale: np.float32, bias: np.float32, steps: np.float32, codes: Array) -> None:
    """RUN float32 -> uint8 codes."""
    for i in range(RUN):
        q = np.rint((values[i] - bias) / scale)
        q = q if q > np.float32(0) else np.float32(0)
        q = q if q < steps else steps
        codes[i] = np.uint8(np.int32(q))


@jit
def _pack(codes: Array, bits: int, target: Array) -> None:
    """(8 n,) uint8 codes -> (bits n,) bytes: codes, pairs and fours are pushed together in turn."""
    octets = codes.view(np.uint64)
    one, two, four = np.uint64(8 - bits), np.uint64(16 - 2 * bits), np.uint64(32 - 4 * bits)
    for i in range(octets.size):
        x = octets[i]
        x = (x & np.uint64(0x00FF00FF00FF00FF)) | ((x & np.uint64(0xFF00FF00FF00FF00)) >> one)
        x = (x & np.uint64(0x0000FFFF0000FFFF)) | ((x & np.uint64(0xFFFF0000FFFF0000)) >> two)
        octets[i] = (x & np.uint64(0x00000000FFFFFFFF)) | ((x & np.uint64(0xFFFFFFFF00000000)) >> four)
    for i in range(octets.size):
        for k in range(bits):
            target[i * bits + k] = codes[8 * i + k]


@jit
def _ordered(bits: Array, a: Array, b: Array) -> None:
    """float32 bit patterns -> by pairs, the larger and the complement of the smaller, as integers in the
    order of the floats."""
    for i in range(bits.size // 2):
        x, y = bits[2 * i], bits[2 * i + 1]
        x = np.int32(x ^ (np.int32(x >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        y = np.int32(y ^ (np.int32(y >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        a[i] = x if x > y else y
        b[i] = ~(y if x > y else x)


@jit
def _float(ordered: int) -> np.float32:
    """The inverse of the order-keeping map of `_ordered`."""
    x = np.int32(ordered)
    return np.int32(x ^ (np.int32(x >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@jit
def _encode_block(
    values: Array, bits: int, scratch: Array, codes: Array, words: Array, scales: Array, biases: Array
) -> None:
    """A block of float32, of whole groups -> words, scales, biases. `scratch` is (3, BLOCK / 2) int32."""
    half = values.size // 2
    _ordered(values.view(np.int32), scratch[0], scratch[1])
    highs = fold_max(scratch[0, :half], scratch[2], scales.size)
    for g in range(scales.size):
        scales[g] = _float(highs[g])
    lows = fold_max(scratch[1, :half], scratch[2], scales.size)
    steps = np.float32((1 << bits) - 1)
    size = values.size // scales.size
    for g in range(scales.size):
        scale, bias = _terms(_float(~lows[g]), scales[g], steps)
        scales[g], biases[g] = scale, bias
        for start in range(g * size, (g + 1) * size, RUN):
            _codes(values[start : start + RUN], scale, bias, steps, codes[start : start + RUN])
    if bits == 4:
        pack4(codes[: values.size], words)
    else:
        _pack(codes[: values.size], bits, words.view(np.uint8))


_OUTPUTS = (types.int64, write(types.uint32), write(types.float32), write(types.float32))


@compiled(types.void(read(types.int16), types.uint32, types.float32, *_OUTPUTS))
def encode_16(bits: Array, shift: int, unit: float, width: int, words: Array, scales: Array, biases: Array) -> None:
    """bf16 or fp16 bit patterns -> words of `width`-bit codes, float32 scales and biases.

    `shift` puts the exponent where float32 has it; times `unit`, 2 to the difference of the exponent
    biases (15 and 127 for fp16), that is the same number.
    """
    codes, scratch = np.empty(BLOCK, np.uint8), np.empty((3, BLOCK // 2), np.int32)
    block = np.empty(BLOCK, np.float32)
    wide = block.view(np.uint32)
    size = bits.size // max(1, scales.size)
    for first in range(0, bits.size, BLOCK):
        count = min(BLOCK, bits.size - first)
        source = bits[first : first + count]
        for i in range(count):
            magnitude = np.uint32(np.uint32(source[i] & np.int16(0x7FFF)) << np.uint32(shift))
            sign = np.uint32(np.uint32(source[i] & np.int16(-0x8000)) << np.uint32(16))
            wide[i] = magnitude | sign
            block[i] *= unit
        packed = slice(first * width // 32, (first + count) * width // 32)
        groups = slice(first // size, (first + count) // size)
        _encode_block(block[:count], width, scratch, codes, words[packed], scales[groups], biases[groups])


@compiled(types.void(read(types.float32), *_OUTPUTS))
def encode_32(values: Array, width: int, words: Array, scales: Array, biases: Array) -> None:
    """float32 -> words of `width`-bit codes, float32 scales and biases."""
    codes, scratch = np.empty(BLOCK, np.uint8), np.empty((3, BLOCK // 2), np.int32)
    size = values.size // max(1, scales.size)
    for first in range(0, values.size, BLOCK):
        count = min(BLOCK, values.size - first)
        packed = slice(first * width // 32, (first + count) * width // 32)
        groups = slice(first // size, (first + count) // size)
        block = values[first : first + count]
        _encode_block(block, width, scratch, codes, words[packed], scales[groups], biases[groups])
