"""Qwen3.5 for convx: DeltaNet and full attention, mixture of experts or dense, with vision."""

from __future__ import annotations

from convx import Config, Export, Floor, FoldGroup, Options, Placement, Source, Tensor, TensorInfo, hookimpl
from convx_qwen35 import configs, processors, roles
from convx_qwen35.card import convx_render_card

__all__ = ["convx_render_card"]


@hookimpl
def convx_detect(config: Config) -> float | None:
    return 1.0 if config.get("model_type") in {"qwen3_5_moe", "qwen3_5"} else None


@hookimpl
def convx_sanitize_config(config: Config, options: Options) -> Config:
    return configs.sanitize(config, options)


@hookimpl
def convx_sanitize_weights(weights: dict[str, Tensor], config: Config, options: Options) -> dict[str, Tensor]:
    from convx_qwen35.weights import sanitize

    return sanitize(weights, config, options)


@hookimpl
def convx_explain_tensor(name: str, config: Config, options: Options) -> str | None:
    from convx_qwen35.weights import explain

    return explain(name, config, options)


@hookimpl
def convx_tensor_role(name: str, config: Config) -> Placement:
    return roles.place(name, config)


@hookimpl
def convx_tensor_floor(tensor: TensorInfo) -> Floor | None:
    return roles.floor(tensor)


@hookimpl
def convx_fold_groups(weights: dict[str, Tensor], config: Config) -> list[FoldGroup]:
    from convx_qwen35.folding import groups

    return groups(weights, config)


@hookimpl
def convx_export_processor(source: Source, config: Config, options: Options) -> Export:
    return processors.export(source, config, options)
