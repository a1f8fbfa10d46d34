"""Prepare a source once for any number of plans: sanitize it, audit it, and say what each tensor is for.

The result is compared with the parameter tree of the stock loader's own model: every source tensor is used, or
dropped with a reason; every parameter is there, in its shape.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from convx.config import config_dtype, unquantized, with_dtype, with_eos
from convx.decide import TensorInfo
from convx.dtypes import DType, is_float
from convx.errors import PlanError
from convx.export import Export
from convx.loaders import ModelTree, model_tree
from convx.options import Options
from convx.plugins import Hooks
from convx.requantize import decoded_weights, refuse_quantized
from convx.roles import Placement, Role
from convx.source import Config, Source
from convx.storage import Storage, View
from convx.tensors import Tensor


@dataclass(frozen=True)
class Prepared:
    """What every format of one source shares: sanitized config and weights, audited against the loader's tree."""

    source: Source
    architecture: str
    hooks: Hooks
    options: Options
    config: Config
    weights: Mapping[str, Tensor]
    infos: tuple[TensorInfo, ...]
    dropped: tuple[tuple[str, str], ...]
    tree: ModelTree
    export: Export
    plain: DType
    notes: tuple[str, ...] = ()


def prepare(source: Source, architecture: str, hooks: Hooks, options: Options) -> Prepared:
    """Sanitize and audit a source once, for any number of formats.

    Raises PlanError for a tensor that is missing, unknown, or of another shape than the loader's model has.
    """
    refuse_quantized(source, options)
    config = hooks.sanitize_config(copy.deepcopy(source.config), options)
    config = unquantized(config)
    plain = options.dtype or config_dtype(config)
    tree = model_tree(config)
    if source.bare:
        declared = hooks.declare_weights(tree.shapes, config, options)
        weights = {name: _declared(name, shape, plain) for name, shape in declared.items()}
    else:
        weights = hooks.sanitize_weights(decoded_weights(source, options), config, options)
    explain = {n: hooks.explain_tensor(n, config, options) for n in weights if n not in tree.shapes}
    _audit(weights, tree, explain)
    dropped = [] if source.bare else _dropped(source, weights, config, hooks, options)
    infos = tuple(_info(name, t, tree, hooks.tensor_role(name, config)) for name, t in weights.items())
    notes = _duplicates(weights)
    export = hooks.export_processor(source, config, options)
    config, export = with_eos(with_dtype(config, options.dtype), export, source)
    return Prepared(
        source, architecture, hooks, options, config, weights, infos, tuple(dropped), tree, export, plain, tuple(notes)
    )


def _declared(name: str, shape: tuple[int, ...], dtype: DType) -> Tensor:
    return Tensor(View.whole(Storage(name, None, 0, math.prod(shape) * dtype.itemsize), dtype, shape))


def _info(name: str, tensor: Tensor, tree: ModelTree, placement: Placement) -> TensorInfo:
    module = name.removesuffix(".weight")
    known = name in tree.shapes
    quantizable = name.endswith(".weight") and (
        module in tree.quantizable if known else tensor.ndim == 2 and placement.role is not Role.MTP
    )
    return TensorInfo(name, tensor.shape, tensor.dtype, placement, quantizable)


def _audit(weights: Mapping[str, Tensor], tree: ModelTree, explain: Mapping[str, str | None]) -> None:
    unknown = [name for name, reason in explain.items() if reason is None]
    if unknown:
        raise PlanError(
            f"{len(unknown)} tensors are unknown to {tree.loader}'s model: {_some(unknown)}",
            hint="a newer model than this plugin knows, or a damaged checkpoint; nothing was written",
        )
    missing = [name for name in tree.shapes if name not in weights]
    if missing:
        raise PlanError(
            f"{len(missing)} tensors that {tree.loader} needs are missing: {_some(missing)}",
            hint="is the download complete, and does config.json belong to it?",
        )
    for name, shape in tree.shapes.items():
        if weights[name].shape != shape:
            raise PlanError(f"{name}: shape {weights[name].shape}, {tree.loader} expects {shape}")
        if name in tree.floats and not is_float(weights[name].dtype):
            raise PlanError(f"{name}: is stored as {weights[name].dtype}, {tree.loader} expects floating point")


def _dropped(
    source: Source, weights: Mapping[str, Tensor], config: Config, hooks: Hooks, options: Options
) -> list[tuple[str, str]]:
    used = {name for tensor in weights.values() for name in tensor.sources}
    dropped, unknown = [], []
    for name in source.tensors:
        if name in used:
            continue
        reason = hooks.explain_tensor(name, config, options)
        if reason is None:
            unknown.append(name)
        else:
            dropped.append((name, reason))
    if unknown:
        raise PlanError(
            f"{len(unknown)} source tensors have no use: {_some(unknown)}",
            hint="a newer model than this plugin knows, or a damaged checkpoint; nothing was written",
        )
    return dropped


def _duplicates(weights: Mapping[str, Tensor]) -> list[str]:
    counts = Counter((t.sources[0], t.shape) for t in weights.values() if len(t.sources) == 1 and _is_whole(t))
    return [f"source tensor {name} is used {n} times" for (name, _), n in counts.items() if n > 1]


def _is_whole(tensor: Tensor) -> bool:
    return isinstance(tensor.node, View) and tensor.nbytes == tensor.node.storage.nbytes


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
