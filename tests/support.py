"""What several tests share: the matrix of models and formats, and a short way to convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convx.convert import convert
from convx.options import Options
from convx.report import Report
from convx.session import open_session

MODELS = ("gemma4-moe", "gemma4-e4b", "qwen35-moe")
LAYOUTS = ("hub", "transformers5")
FORMATS = ("bf16", "affine4", "affine8", "mxfp4", "mxfp8", "nvfp4")


def run_convert(source: Path, out: Path, fmt: str = "nvfp4", **options: Any) -> list[Report]:
    """Convert with default settings; `options` are those of `convx.options.Options`."""
    running = {k: options.pop(k) for k in ("jobs", "max_memory", "overwrite", "resume") if k in options}
    recipe = options.pop("recipe", None)
    formats = tuple(filter(None, fmt.split(",")))
    session = open_session(source, formats=formats, recipe=recipe, options=Options(**options))
    return convert(session, out, command="convx source out", **running)


def load_float32(path: Path) -> Any:
    """The stock mlx-vlm model of a checkpoint, in float32: mlx's expert matmul is float32 only on a CPU."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_vlm.utils import load_model

    model = load_model(path)
    model.update(tree_map(lambda w: w.astype(mx.float32) if w.dtype == mx.bfloat16 else w, model.parameters()))
    return model
