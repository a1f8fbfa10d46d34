"""Gemma 4 for convx: the MoE models (26B-A4B and its relatives), and the dense ones with audio (E2B, E4B, 31B)."""

from __future__ import annotations

from collections.abc import Mapping

from convx import Config, Export, Floor, FoldGroup, Options, Placement, Source, Tensor, TensorInfo, hookimpl
from convx_gemma4 import configs, processors, roles, weights
from convx_gemma4.card import convx_render_card
from convx_gemma4.patches import convx_post_save_patch

__all__ = ["convx_post_save_patch", "convx_render_card"]


@hookimpl
def convx_detect(config: Config) -> float | None:
    return 1.0 if config.get("model_type") == "gemma4" else None


@hookimpl
def convx_sanitize_config(config: Config, options: Options) -> Config:
    return configs.sanitize(config, options)


@hookimpl
def convx_declare_weights(
    shapes: Mapping[str, tuple[int, ...]], config: Config, options: Options
) -> dict[str, tuple[int, ...]] | None:
    return weights.with_shared_kv(shapes, config) if options.shared_kv == "keep" else None


@hookimpl
def convx_sanitize_weights(weights: dict[str, Tensor], config: Config, options: Options) -> dict[str, Tensor]:
    from convx_gemma4.weights import sanitize

    return sanitize(weights, config, options)


@hookimpl
def convx_explain_tensor(name: str, config: Config, options: Options) -> str | None:
    return weights.explain(name, config, options)


@hookimpl
def convx_tensor_role(name: str, config: Config) -> Placement:
    return roles.place(name, config)


@hookimpl
def convx_tensor_floor(tensor: TensorInfo) -> Floor | None:
    return roles.floor(tensor)


@hookimpl
def convx_fold_groups(weights: dict[str, Tensor], config: Config) -> list[FoldGroup]:
    from convx_gemma4.folding import groups

    return groups(weights, config)


@hookimpl
def convx_export_processor(source: Source, config: Config, options: Options) -> Export:
    return processors.export(source, config, options)
