"""Compiled loops that several number formats share. Imports numba: import it only where an encoder runs.

They are compiled into their callers, and numba's cache looks only at the caller's file: after a change
here, clear `__pycache__/*.nb?` of the format plugins.

Maxima fold neighbours instead of keeping a running value: a short loop is unrolled before the compiler's
vectoriser sees it, and a running maximum then stays scalar. Long passes over a block become vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from convx.backend import jit
from convx.formats import Array

BLOCK = 2048
"""Elements encoded at a time: their unpacked codes stay in the first-level cache."""


Integer = np.signedinteger[Any]


def read(element: object, axes: int = 1) -> object:
    """numba type of an input array; it accepts read-only arrays too."""
    return types.Array(element, axes, "C", readonly=True)


def write(element: object) -> object:
    """numba type of a flat output array."""
    return types.Array(element, 1, "C")


@jit
def fold_max(values: Array, spare: Array, count: int) -> Array:
    """Maximum of each of `count` equal runs of `values`, whose length is a power of two times `count`.

    Overwrites both arrays; the result is in the first `count` elements of the one it returns. `spare` is
    at least half as long as `values`.
    """
    size = values.size
    while size > count:
        size //= 2
        for i in range(size):
            a, b = values[2 * i], values[2 * i + 1]
            spare[i] = a if a > b else b
        values, spare = spare, values
    return values


@jit
def largest_magnitudes(bits: Array, mask: Integer, a: Array, b: Array, count: int) -> Array:
    """Largest magnitude of each of `count` equal runs of float bit patterns, as an integer.

    `mask` clears the sign: magnitudes of floats are ordered as their bit patterns are. `a` and `b` are spare
    arrays of the same type, half as long as `bits`.
    """
    size = bits.size // 2
    for i in range(size):
        x, y = bits[2 * i] & mask, bits[2 * i + 1] & mask
        a[i] = x if x > y else y
    return fold_max(a[:size], b, count)


@jit
def pack4(codes: Array, words: Array) -> None:
    """(8 n,) uint8 codes below 16 -> (n,) uint32, the first code lowest."""
    octets = codes.view(np.uint64)
    for i in range(words.size):
        x = octets[i]
        x = (x | (x >> np.uint64(4))) & np.uint64(0x00FF00FF00FF00FF)
        x = (x | (x >> np.uint64(8))) & np.uint64(0x0000FFFF0000FFFF)
        words[i] = np.uint32((x | (x >> np.uint64(16))) & np.uint64(0xFFFFFFFF))
