"""NVFP4: 4-bit floats (E2M1) in groups of 16 that share a small float (E4M3); 4.5 bits a weight."""

from __future__ import annotations

from convx import hookimpl
from convx.formats import Format
from convx_nvfp4.format import Nvfp4


@hookimpl
def convx_format() -> Format:
    return Nvfp4()
