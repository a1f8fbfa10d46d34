"""The stock loaders' model classes: whether they know a config, their `sanitize`, their `quant_predicate`."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from convx import Config, Floor, Role, Tensor, TensorError, TensorInfo
from convx.backend import from_mlx, to_mlx
from convx.dtypes import BY_NAME, DType
from convx.loaders import build_model, is_multimodal
from convx.tensors import Array

_QUOTED = re.compile(r'"src:([^"]+)"')


def is_known(config: Config) -> bool:
    """Whether the loader that opens this config has a module for its model type. Builds nothing."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return False
    try:
        if is_multimodal(config):
            from mlx_vlm.utils import get_model_and_args

            get_model_and_args(config)
        else:
            from mlx_lm.utils import _get_classes

            _get_classes(config)
    except (ValueError, KeyError, ImportError):
        return False
    return True


@dataclass(frozen=True)
class Opaque:
    """A tensor that mlx computes as a whole. Rows are cut from the last one computed."""

    graph: Graph
    name: str
    shape: tuple[int, ...]
    dtype: DType
    names: tuple[str, ...]

    def rows(self, start: int, stop: int) -> Array:
        return self.graph.value(self.name).reshape(-1, self.shape[-1] if self.shape else 1)[start:stop]

    def sources(self) -> Iterator[str]:
        return iter(self.names)

    def readable(self) -> bool:
        return True

    def index(self, index: Any) -> Any:  # noqa: ANN401
        raise TensorError(f"{self.name}: slicing is not lazy under the generic architecture")

    def permute(self, order: tuple[int, ...]) -> Any:  # noqa: ANN401
        raise TensorError(f"{self.name}: transposing is not lazy under the generic architecture")


class Graph:
    """The sanitized weights as unevaluated mlx arrays; evaluated one at a time, and forgotten after the next.

    mlx binds an array to the thread that made it, so one thread makes and evaluates them all.
    """

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlx")
        self._arrays: dict[str, Any] = {}
        self._held: tuple[str, Array] | None = None

    def value(self, name: str) -> Array:
        return self._thread.submit(self._value, name).result()

    def _value(self, name: str) -> Array:
        if self._held is None or self._held[0] != name:
            if name not in self._arrays:
                self._arrays = self._make()
            self._held = None
            self._held = (name, from_mlx(self._arrays.pop(name)))
        return self._held[1]


def sanitize(weights: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    def load() -> dict[str, Any]:
        files: dict[str, dict[str, Any]] = {}
        return {name: _lazy_array(tensor, files) for name, tensor in weights.items()}

    inputs = load()
    outputs = _sanitized(inputs, config)
    graph = Graph(lambda: _sanitized(load(), config))
    by_identity = {id(array): name for name, array in inputs.items()}
    named = {f"src:{name}": array for name, array in inputs.items()}
    out = {}
    for name, array in outputs.items():
        same = by_identity.get(id(array))
        if same is not None:
            out[name] = weights[same]
        else:
            dtype = _numpy_dtype(array)
            out[name] = Tensor(Opaque(graph, name, tuple(array.shape), dtype, _traced(array, named)))
    return out


def _lazy_array(tensor: Tensor, files: dict[str, dict[str, Any]]) -> Any:  # noqa: ANN401
    """A stored tensor as an mlx array that is read when it is evaluated; `files` holds what is open already."""
    import mlx.core as mx

    storage = getattr(tensor.node, "storage", None)
    if storage is None:
        return to_mlx(tensor.read())
    path = str(storage.file.path)
    if path not in files:
        loaded: Any = mx.load(path)
        files[path] = loaded
    return files[path][storage.name]


def _sanitized(weights: dict[str, Any], config: Config) -> dict[str, Any]:
    model = _model(config)
    weights = dict(weights)
    if hasattr(model, "sanitize"):
        weights = dict(model.sanitize(weights))
    if is_multimodal(config):
        weights = _sanitized_parts(weights, config)
    return weights


def _sanitized_parts(weights: dict[str, Any], config: Config) -> dict[str, Any]:
    """mlx-vlm lets the classes of the parts sanitize after the whole model's (mlx_vlm/utils.py, load_model)."""
    import copy

    from mlx_vlm.utils import get_model_and_args, sanitize_weights

    package, _ = get_model_and_args(config)
    model_config = _model(config).config
    for part, settings in (
        ("VisionModel", "vision_config"),
        ("LanguageModel", "text_config"),
        ("AudioModel", "audio_config"),
    ):
        if hasattr(package, part) and getattr(model_config, settings, None) is not None:
            weights = sanitize_weights(getattr(package, part), weights, copy.deepcopy(getattr(model_config, settings)))
    return dict(weights)


def _traced(array: Any, named: dict[str, Any]) -> tuple[str, ...]:  # noqa: ANN401
    """Names of the inputs that an unevaluated array is computed from."""
    import mlx.core as mx

    text = io.StringIO()
    mx.export_to_dot(text, array, **named)
    return tuple(dict.fromkeys(_QUOTED.findall(text.getvalue())))


def _numpy_dtype(array: Any) -> DType:  # noqa: ANN401
    word = str(array.dtype).rpartition(".")[2]
    names = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "uint8": "U8", "uint32": "U32", "int32": "I32"}
    return BY_NAME[names[word]] if word in names else np.dtype(word)


_models: dict[str, Any] = {}


def _model(config: Config) -> Any:  # noqa: ANN401
    import json

    key = json.dumps(config, sort_keys=True, default=str)
    if key not in _models:
        _models.clear()
        _models[key] = build_model(config, "mlx-vlm" if is_multimodal(config) else "mlx-lm")
    return _models[key]


def floor(tensor: TensorInfo, config: Config) -> Floor | None:
    """Towers stay whole; elsewhere what the model's own quant_predicate asks for."""
    if tensor.role in {Role.VISION, Role.AUDIO, Role.PROJECTOR}:
        return Floor("keep", "towers stay whole")
    predicate = getattr(_model(config), "quant_predicate", None)
    if predicate is None or not tensor.quantizable:
        return None
    asked = predicate(tensor.module, _Quantizable())
    if isinstance(asked, dict) and "bits" in asked:
        spec = f"affine{asked['bits']}:g{asked.get('group_size', 64)}"
        return Floor(spec, "the model's own quant_predicate", modes=("affine",))
    return Floor("keep", "the model's own quant_predicate") if asked is False else None


class _Quantizable:
    """Stands in for a module when a predicate only asks whether it can be quantized."""

    def to_quantized(self) -> None: ...
