"""The affine format of mlx: value = scale * code + bias, by group.

The codes of a row are one run of bits, the first code lowest, cut into little-endian U32 words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convx import backend
from convx.dtypes import F32, U32, DType
from convx.formats import Array, Format, Part


@dataclass(frozen=True)
class Affine(Format):
    """Stored as `weight` (U32) and, in the type of the weight, `scales` and `biases`, one each a group."""

    mode: str = "affine"
    bits: int = 4
    group_size: int = 64

    group_sizes: ClassVar[tuple[int, ...]] = (64, 32, 128)

    @property
    def name(self) -> str:
        return f"affine{self.bits}"

    def parts(self, columns: int, dtype: DType) -> tuple[Part, ...]:
        groups = columns // self.group_size
        words = columns * self.bits // 32
        return (Part("weight", U32, words), Part("scales", dtype, groups), Part("biases", dtype, groups))

    def encode(self, tile: Array) -> tuple[Array, ...]:
        if not backend.uses_numba():
            return backend.encode_with_mlx(tile, self)
        from convx_affine import kernels

        tile = backend.checked_tile(tile, self)
        words, scales, biases = backend.empty_parts(tile, self)
        kernels.encode(tile, self.bits, words.reshape(-1), scales.reshape(-1), biases.reshape(-1))
        return words, scales, biases

    def decode(self, parts: tuple[Array, ...]) -> Array:
        """float32(scale) * code + float32(bias), each operation rounded once to float32.

        `mx.dequantize` gives the same for float32 scales. With bf16 or fp16 scales it rounds the product
        and the sum to that type; the matrix kernels of mlx work in float32, as here.
        """
        words, scales, biases = parts
        codes = unpack(words, self.bits).reshape(*scales.shape, self.group_size)
        with np.errstate(over="ignore", invalid="ignore"):
            values = codes.astype(F32) * scales.astype(F32)[..., None] + biases.astype(F32)[..., None]
        return np.asarray(values.reshape(len(words), scales.shape[1] * self.group_size), F32)


def unpack(words: Array, bits: int) -> Array:
    """(rows, words) uint32 -> (rows, words * 32 / bits) uint8 codes."""
    rows, columns = len(words), words.shape[1] * 32 // bits
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(rows, columns // 8, bits)
    runs = np.zeros(octets.shape[:-1], np.uint64)
    for byte in range(bits):
        runs |= octets[..., byte].astype(np.uint64) << np.uint64(8 * byte)
    codes = np.empty((*runs.shape, 8), np.uint8)
    for k in range(8):
        codes[..., k] = (runs >> np.uint64(bits * k)) & np.uint64((1 << bits) - 1)
    return codes.reshape(rows, columns)
