"""MXFP8: 8-bit floats (E4M3) in groups of 32 that share a power of two (E8M0); 8.25 bits a weight."""

from __future__ import annotations

from convx import hookimpl
from convx.formats import Format
from convx_mxfp8.format import Mxfp8


@hookimpl
def convx_format() -> Format:
    return Mxfp8()
