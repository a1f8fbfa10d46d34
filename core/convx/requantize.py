"""Sources that are quantized already: refused, or decoded lazily when the user asks for it."""

from __future__ import annotations

from convx.config import QUANTIZATION_KEYS
from convx.errors import SourceError
from convx.options import Options
from convx.plugins import Formats
from convx.shaping import map_rows
from convx.source import Config, Source
from convx.tensors import Tensor


def quantization_of(config: Config) -> Config | None:
    for part in (config, config.get("text_config") or {}):
        for key in QUANTIZATION_KEYS:
            if isinstance(part.get(key), dict):
                found: Config = part[key]
                return found
    return None


def refuse_quantized(source: Source, options: Options) -> None:
    """Raises SourceError for a quantized source unless `--requantize` was given and it can be decoded."""
    found = quantization_of(source.config)
    scaled = [n for n in source.tensors if n.endswith((".scales", "_scales", "weight_scale", "weight_scale_inv"))]
    if found is None and not scaled:
        return
    method = (found or {}).get("quant_method") or (found or {}).get(
        "mode", "affine" if found else "scales without a config"
    )
    if found is None or "group_size" not in found or "quant_method" in found:
        raise SourceError(
            f"{source.name}: quantized already ({method}), in a layout that convx does not decode",
            hint="convert the unquantized original",
        )
    if not options.requantize:
        raise SourceError(
            f"{source.name}: quantized already ({method}, {found.get('bits')} bits)",
            hint="convert the unquantized original, or add --requantize to decode it first (errors add up)",
        )


def decoded_weights(source: Source, options: Options) -> dict[str, Tensor]:
    """The source's tensors, those of an MLX-quantized checkpoint decoded row by row."""
    weights = source.weights()
    found = quantization_of(source.config)
    if found is None or not options.requantize:
        return weights
    formats = Formats()
    for prefix in [n.removesuffix(".scales") for n in weights if n.endswith(".scales")]:
        entry = found.get(prefix) if isinstance(found.get(prefix), dict) else found
        assert entry is not None
        bits, group_size = int(entry["bits"]), int(entry["group_size"])
        form = formats.by_mode(entry.get("mode", "affine"), bits, group_size)
        columns = weights[f"{prefix}.weight"].shape[-1] * 32 // bits
        scales = weights[f"{prefix}.scales"]
        parts = [weights.pop(f"{prefix}.{p.suffix}") for p in form.parts(columns, scales.dtype)]
        import numpy as np

        decoded = map_rows(lambda *rows, f=form: f.decode(rows), parts, columns, np.dtype(np.float32))
        weights[f"{prefix}.weight"] = decoded
    return weights
