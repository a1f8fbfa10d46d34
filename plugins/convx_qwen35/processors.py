"""Qwen3.5's files beside the weights: carried, and what older loaders read derived."""

from __future__ import annotations

from convx import Config, Export, Options, Source, carry_all, to_json

_NESTED = {"image_processor": "preprocessor_config.json", "video_processor": "video_preprocessor_config.json"}


def export(source: Source, config: Config, options: Options) -> Export:
    """Every sidecar byte for byte; from a lone `processor_config.json` the two files that loaders read."""
    out = carry_all(source, options)
    if options.modality == "text" or source.bare or not config.get("vision_config"):
        return out
    processor = source.read_json("processor_config.json") or {}
    missing = list(out.missing)
    for part, name in _NESTED.items():
        if name in out.files:
            continue
        if part in processor:
            flat = {**processor[part], "processor_class": processor.get("processor_class")}
            out = out.with_file(name, to_json(flat))
        else:
            missing.append(name)
    return Export(out.files, tuple(missing))
