"""The packages as plugins: the hook gives the format, and importing one imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pluggy
import pytest

import convx_affine
import convx_mxfp4
import convx_mxfp8
import convx_nvfp4
from convx.formats import Format

PLUGINS = {
    "mxfp4": convx_mxfp4,
    "mxfp8": convx_mxfp8,
    "nvfp4": convx_nvfp4,
    **{f"affine{bits}": getattr(convx_affine, f"affine{bits}") for bits in (2, 3, 4, 5, 6, 8)},
}


@pytest.mark.parametrize("name", PLUGINS)
def test_hook_gives_the_format(name):
    manager = pluggy.PluginManager("convx")
    manager.add_hookspecs(_specs())
    manager.register(PLUGINS[name])
    format_ = manager.hook.convx_format()
    assert isinstance(format_, Format)
    assert format_.name == name
    assert format_.group_size == format_.group_sizes[0]


def _specs():
    from convx import hookspecs

    return hookspecs


@pytest.mark.parametrize("package", ["convx_affine", "convx_mxfp4", "convx_mxfp8", "convx_nvfp4"])
def test_import_is_light(package):
    code = f"import {package}, sys; print([m for m in ('numba', 'mlx', 'llvmlite') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
