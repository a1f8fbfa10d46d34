"""What the stock loaders' own model classes expect of a config: parameter names, shapes, quantizable modules.

Instantiating a model is lazy in MLX: it takes no memory, whatever the model's size.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convx.errors import PlanError
from convx.source import Config

_VLM_PARTS = ["text", "vision", "perceiver", "projector", "audio"]


@dataclass(frozen=True)
class ModelTree:
    """The parameters of a loader's model for one config: name -> shape, and modules it can hold quantized."""

    loader: str
    shapes: Mapping[str, tuple[int, ...]]
    quantizable: frozenset[str]
    floats: frozenset[str] = frozenset()
    """Parameters that the model computes with as floating point."""

    @cached_property
    def parameters(self) -> int:
        from math import prod

        return sum(prod(shape) for shape in self.shapes.values())


def is_multimodal(config: Config) -> bool:
    """Whether a checkpoint with this config opens in mlx-vlm: it has a vision or audio part."""
    return any(isinstance(config.get(key), dict) for key in ("vision_config", "audio_config"))


def build_model(config: Config, loader: str) -> Any:  # noqa: ANN401
    """The loader's model for a config, its parameters unevaluated. Raises PlanError when it refuses it."""
    try:
        return _vlm_model(copy.deepcopy(config)) if loader == "mlx-vlm" else _lm_model(copy.deepcopy(config))
    except Exception as error:
        raise PlanError(
            f"{loader} cannot build model_type {config.get('model_type')!r} from this config: "
            f"{type(error).__name__}: {error}"
        ) from error


def _vlm_model(config: Config) -> Any:  # noqa: ANN401
    from mlx_vlm.utils import get_model_and_args, update_module_configs

    package, _ = get_model_and_args(config)
    config.setdefault("text_config", config.pop("llm_config", {}))
    for key in ("vision_config", "audio_config"):
        config.setdefault(key, {})
    model_config = package.ModelConfig.from_dict(config)
    return package.Model(update_module_configs(model_config, package, config, _VLM_PARTS))


def _lm_model(config: Config) -> Any:  # noqa: ANN401
    from mlx_lm.utils import _get_classes

    model, arguments = _get_classes(config)
    return model(arguments.from_dict(config))


def model_tree(config: Config) -> ModelTree:
    """The tree of the loader that opens this config: mlx-vlm for multimodal ones, else mlx-lm."""
    return model_tree_of(config, "mlx-vlm" if is_multimodal(config) else "mlx-lm")


def model_tree_of(config: Config, loader: str) -> ModelTree:
    """The tree of one loader's model for a config. Raises PlanError when the loader refuses it."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    model = build_model(config, loader)
    parameters = tree_flatten(model.parameters())
    shapes = {name: tuple(value.shape) for name, value in parameters}
    floats = frozenset(name for name, value in parameters if mx.issubdtype(value.dtype, mx.floating))
    quantizable = frozenset(
        name for name, module in model.named_modules() if hasattr(module, "to_quantized") and "weight" in module
    )
    return ModelTree(loader, shapes, quantizable, floats)
