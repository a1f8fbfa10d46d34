"""MXFP4: 4-bit floats (E2M1) in groups of 32 that share a power of two (E8M0); 4.25 bits a weight."""

from __future__ import annotations

from convx import hookimpl
from convx.formats import Format
from convx_mxfp4.format import Mxfp4


@hookimpl
def convx_format() -> Format:
    return Mxfp4()
