"""A Gemma 4 MoE source of any size: real numbers repeated, or holes that take no disk.

python tests/benchmarks/source.py OUT [--layers 6 --experts 64] [--full] [--sparse]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from convx.dtypes import BF16
from convx.testing.tiny import gemma4
from convx.testing.tiny.sizes import GEMMA4_MOE, sized
from convx.testing.tiny.store import write_json
from convx.testing.tiny.weights import Weights

# The geometry of gemma-4-26b-a4b, but for depth, experts and vocabulary, which scale it.
GEOMETRY = {
    "hidden": 2816, "intermediate": 2112, "moe_intermediate": 704, "heads": 16, "kv_heads": 8, "head_dim": 256,
    "global_head_dim": 512, "global_kv_heads": 2, "full_every": 6, "top_k": 8,
}  # fmt: skip
FULL = {"layers": 30, "experts": 128, "vocab": 262144, "vision_hidden": 1152, "vision_intermediate": 4304,
        "vision_layers": 27, "vision_heads": 16, "position_embeddings": 10240}  # fmt: skip
BLOCK = 1 << 22


class Shapes(Weights):
    """Takes the place of weights under construction and keeps their shapes alone."""

    def __init__(self) -> None:
        super().__init__(0, 0.03)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def normal(self, name: str, *shape: int, center: float = 0.0, std: float | None = None) -> None:
        self.shapes[name] = shape

    def norm_offset(self, name: str, *shape: int) -> None:
        self.shapes[name] = shape

    def uniform(self, name: str, low: float, high: float, *shape: int) -> None:
        self.shapes[name] = shape

    def put(self, name: str, values: Any, dtype: Any = BF16) -> None:
        self.shapes[name] = np.shape(values)


def make_source(out: Path, *, sparse: bool, **sizes: int) -> int:
    """Write the source and give its number of parameters; one shard a layer."""
    weights = Shapes()
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", gemma4.build(out, weights, sized(GEMMA4_MOE, {**GEOMETRY, **sizes}), False))
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in weights.shapes.items():
        layer = name.split(".layers.")[1].partition(".")[0] if "language_model.layers." in name else "outside"
        shards.setdefault(layer, {})[name] = shape
    block = None if sparse else _block()
    weight_map = {}
    for n, shapes in enumerate(shards.values(), 1):
        file = f"model-{n:05d}-of-{len(shards):05d}.safetensors"
        _write(out / file, shapes, block)
        weight_map |= dict.fromkeys(shapes, file)
    write_json(out / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return sum(math.prod(s) for s in weights.shapes.values())


def _block() -> bytes:
    return (np.random.default_rng(0).standard_normal(BLOCK).astype(np.float32) * 0.03).astype(BF16).tobytes()


def _write(path: Path, shapes: dict[str, tuple[int, ...]], block: bytes | None) -> None:
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = math.prod(shape) * 2
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        if block is None:
            file.truncate(8 + len(raw) + at)
            return
        while at:
            at -= file.write(block[: min(at, len(block))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--full", action="store_true", help="the whole geometry of 26B-A4B")
    parser.add_argument("--sparse", action="store_true", help="holes instead of numbers: no disk")
    given = parser.parse_args()
    sizes = FULL if given.full else {"layers": given.layers, "experts": given.experts, "vocab": 2048}
    print(f"{make_source(given.out, sparse=given.sparse, **sizes) / 1e9:.2f} B parameters in {given.out}")
