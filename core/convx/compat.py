"""Releases of mlx that must not be used."""

from __future__ import annotations

from importlib.metadata import version

from convx.errors import ConvxError

SOUND_MLX = (0, 32, 1)
"""First release whose Metal kernels write correct NVFP4 (mlx#3557, mlx#3934)."""


def require_sound_mlx() -> None:
    """Raises ConvxError when the installed mlx writes wrong bytes."""
    installed = version("mlx")
    numbers = tuple(int(n) for n in installed.split(".")[:3] if n.isdigit())
    if numbers < SOUND_MLX:
        wanted = ".".join(map(str, SOUND_MLX))
        raise ConvxError(
            f"mlx {installed} writes wrong NVFP4 on Metal (mlx#3557)", hint=f"pip install -U 'mlx>={wanted}'"
        )
