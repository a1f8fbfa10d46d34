"""How fast the formats encode on one thread, compiled loops against mx.quantize on the same data.

    python tests/benchmarks/encoders.py [--dtype bf16] [--rows 4096] [--columns 4096] [--json]

Prints million weights a second, the best of several runs. mlx is timed on fewer rows: it is slower.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from convx import backend
from convx.dtypes import SPEC_NAMES
from convx.formats import Array, Format
from convx_affine.format import Affine
from convx_mxfp4.format import Mxfp4
from convx_mxfp8.format import Mxfp8
from convx_nvfp4.format import Nvfp4

FORMATS: list[Format] = [Mxfp4(), Mxfp8(), Nvfp4(), *(Affine(bits=b) for b in (2, 3, 4, 5, 6, 8))]
MLX_ROWS = 256


def speed(encode: Callable[[], object], weights: int, repeats: int = 5) -> float:
    """Million weights a second in the best run; the first, which compiles, is left out."""
    encode()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        encode()
        best = min(best, time.perf_counter() - start)
    return weights / best / 1e6


def measure(format_: Format, tile: Array) -> dict[str, Any]:
    small = backend.to_mlx(tile[:MLX_ROWS])
    options: dict[str, Any] = format_.config_entry()
    loops = speed(lambda: format_.encode(tile), tile.size)
    mlx = speed(lambda: mx.eval(*mx.quantize(small, **options)), small.size, repeats=3)
    speeds = {"numba": round(loops), "mlx": round(mlx, 1), "ratio": round(loops / mlx, 1)}
    return {"format": format_.spec, **speeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    weights = np.random.default_rng(0).standard_normal((arguments.rows, arguments.columns), np.float32) * 0.02
    tile = weights.astype(SPEC_NAMES[arguments.dtype])
    results = [measure(format_, tile) for format_ in FORMATS]
    if arguments.json:
        print(json.dumps({"dtype": arguments.dtype, "unit": "million weights/s", "results": results}))
        return
    print(f"{'':12}{'numba':>8}{'mlx':>8}{'ratio':>8}   million {arguments.dtype} weights/s, one thread")
    for row in results:
        print(f"{row['format']:12}{row['numba']:8}{row['mlx']:8}{row['ratio']:8}")


if __name__ == "__main__":
    main()
