"""Gemma 4's files beside the weights: processor settings carried, and what older loaders read derived."""

from __future__ import annotations

from typing import Any

from convx import Config, Export, Options, Source, carry_all, to_json


def export(source: Source, config: Config, options: Options) -> Export:
    """Every sidecar byte for byte; a `preprocessor_config.json` and a `video_preprocessor_config.json` derived
    from `processor_config.json` where the source has only that, since older loaders read only those."""
    out = carry_all(source, options)
    if options.modality == "text" or source.bare:
        return out
    processor = source.read_json("processor_config.json")
    missing = list(out.missing)
    if processor is None:
        missing += [n for n in ("processor_config.json",) if "preprocessor_config.json" not in out.files]
        return Export(out.files, tuple(missing))
    missing += [f"processor_config.json: {part}" for part in _expected(config) if part not in processor]
    out = Export(out.files, tuple(missing))
    if "preprocessor_config.json" not in out.files and "image_processor" in processor:
        out = out.with_file("preprocessor_config.json", to_json(_flat(processor)))
    if "video_preprocessor_config.json" not in out.files and "video_processor" in processor:
        video = {**processor["video_processor"], "processor_class": processor.get("processor_class")}
        out = out.with_file("video_preprocessor_config.json", to_json(video))
    return out


def _expected(config: Config) -> list[str]:
    parts = ["image_processor", "video_processor"]
    return [*parts, "feature_extractor"] if config.get("audio_config") else parts


def _flat(processor: dict[str, Any]) -> dict[str, Any]:
    """Image and audio settings in one object, as `preprocessor_config.json` had them before processors nested."""
    audio = processor.get("feature_extractor") or {}
    image = processor["image_processor"]
    return {**audio, **image, "processor_class": processor.get("processor_class")}
