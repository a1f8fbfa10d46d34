"""Affine formats: integers of 2 to 8 bits with a scale and a bias for each group of 32, 64 or 128 weights.

`affine2` to `affine8` are the plugins, one a width; `bits + 32 / group_size` bits a weight from bf16.
"""

from __future__ import annotations

from dataclasses import dataclass

from convx import hookimpl
from convx.formats import Format
from convx_affine.format import Affine


@dataclass(frozen=True)
class AffinePlugin:
    """A plugin object for one width."""

    bits: int

    @hookimpl
    def convx_format(self) -> Format:
        return Affine(bits=self.bits)


affine2 = AffinePlugin(2)
affine3 = AffinePlugin(3)
affine4 = AffinePlugin(4)
affine5 = AffinePlugin(5)
affine6 = AffinePlugin(6)
affine8 = AffinePlugin(8)
