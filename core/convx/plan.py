"""Plan an output: every tensor, its bits and why, its file and byte range; pure, and exact to the byte.

A plan is made from headers (or a bare config) and plugins alone. Nothing reads a weight before its plan is
complete and agrees with the parameter tree of the stock loader's own model.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from convx.config import quantization_entries, unquantized, with_dtype, with_eos, with_quantization
from convx.decide import Decider, TensorInfo
from convx.dtypes import BF16, SHORT_NAMES, SPEC_NAMES, DType
from convx.errors import PlanError
from convx.export import Export, to_json
from convx.fold import Folded, fold
from convx.formats import Format
from convx.imatrix.files import read_imatrix
from convx.imatrix.names import by_weight
from convx.layout import SHARD_LIMIT, Shard, StoredPart, lay_out
from convx.loaders import ModelTree, model_tree
from convx.options import Options
from convx.plugins import Hooks
from convx.recipes.model import RecipeSource
from convx.requantize import decoded_weights, refuse_quantized
from convx.roles import Placement, Role
from convx.source import Config, Source
from convx.specs import Decision, Plain, Spec
from convx.storage import Storage, View
from convx.tensors import Tensor

__all__ = ["Plan", "PlannedTensor", "Prepared", "TensorInfo", "make_plan", "prepare"]


@dataclass(frozen=True)
class PlannedTensor:
    """One weight of the output: `tensor` computes it, `decision` says how it is stored, `parts` where.

    `dtype` is the type that the tensor is cast to before it is stored or encoded.
    """

    info: TensorInfo
    decision: Decision
    dtype: DType
    parts: tuple[StoredPart, ...]
    tensor: Tensor = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def format(self) -> str:
        """The SPEC of what is stored: `nvfp4`, `affine4:g64`, or the plain type's name."""
        spec = self.decision.spec
        return spec.spec if isinstance(spec, Format) else SHORT_NAMES.get(self.dtype, self.dtype.name)


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


@dataclass(frozen=True)
class Plan:
    """Everything that one output will hold. `digest` identifies it: equal digests give equal bytes."""

    source: Source
    architecture: str
    base: Spec
    recipe: RecipeSource | None
    options: Options
    loader: str
    config: Config
    tensors: tuple[PlannedTensor, ...]
    shards: tuple[Shard, ...]
    dropped: tuple[tuple[str, str], ...]
    export: Export
    warnings: tuple[str, ...]

    @cached_property
    def parameters(self) -> int:
        """Parameters of the unquantized model."""
        return sum(math.prod(t.info.shape) for t in self.tensors)

    @cached_property
    def total_bytes(self) -> int:
        """Bytes of all stored tensors, headers not counted."""
        return sum(t.nbytes for t in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """8 x stored tensor bytes / parameters of the unquantized model, as mlx-lm computes it."""
        return 8 * self.total_bytes / max(1, self.parameters)

    @property
    def overrides(self) -> dict[str, Any]:
        """The per-module entries of the config's `quantization`."""
        return quantization_entries(self.config)

    @cached_property
    def digest(self) -> str:
        hasher = sha256(self.source.header_hash.encode())
        for shard in self.shards:
            hasher.update(shard.name.encode() + b"\0" + shard.header)
        for tensor in self.tensors:
            hasher.update(f"{tensor.name}\0{tensor.decision.spec.spec}\0{tensor.tensor.sources}\n".encode())
        hasher.update(to_json(self.config))
        hasher.update(repr(replace(self.options, imatrix=None)).encode())
        if self.options.imatrix:
            hasher.update(Path(self.options.imatrix).read_bytes())
        return hasher.hexdigest()


def prepare(source: Source, architecture: str, hooks: Hooks, options: Options) -> Prepared:
    """Sanitize and audit a source once, for any number of formats.

    Raises PlanError for a tensor that is missing, unknown, or of another shape than the loader's model has.
    """
    refuse_quantized(source, options)
    config = hooks.sanitize_config(copy.deepcopy(source.config), options)
    config = unquantized(config)
    plain = options.dtype or _config_dtype(config)
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


def _folded(prepared: Prepared, decisions: Mapping[str, Decision]) -> Folded:
    """The weights with an importance matrix's scales folded in, where one is given."""
    if prepared.options.imatrix is None:
        return Folded(dict(prepared.weights))
    matrix = by_weight(read_imatrix(prepared.options.imatrix), prepared.infos)
    groups = prepared.hooks.fold_groups(dict(prepared.weights), prepared.config)
    formats = {name: d.spec for name, d in decisions.items() if isinstance(d.spec, Format)}
    return fold(prepared.weights, groups, matrix, prepared.plain, formats.get)


def make_plan(
    prepared: Prepared,
    base: Spec,
    formats: Mapping[str, Format],
    *,
    recipe: RecipeSource | None = None,
    shard_limit: int = SHARD_LIMIT,
) -> Plan:
    """Decide every tensor for one base format, and lay the output out."""
    decider = Decider(
        prepared.hooks, prepared.config, formats, base, prepared.plain, prepared.options.tensor_overrides
    )
    if isinstance(base, Plain) and base.dtype is not None:
        decider.plain = base.dtype
    decisions = {info.name: decider.decide(info) for info in prepared.infos}
    decider.check_all_used()
    folded = _folded(prepared, decisions)
    infos = sorted(prepared.infos, key=lambda i: _reading_order(prepared.weights[i.name]))
    groups = [
        (_stem(info, prepared.options), _parts(info, decisions[info.name].spec, prepared.plain)) for info in infos
    ]
    placed, shards = lay_out(groups, shard_limit)
    tensors = tuple(
        PlannedTensor(
            info,
            decisions[info.name],
            _working_dtype(info, decisions[info.name].spec, prepared.plain),
            tuple(parts),
            folded.weights[info.name],
        )
        for info, parts in zip(infos, placed, strict=True)
    )
    config = with_quantization(prepared.config, base, [(t.info, t.decision) for t in tensors])
    config = with_dtype(config, base.dtype if isinstance(base, Plain) else None)
    return Plan(
        prepared.source, prepared.architecture, base, recipe, prepared.options, prepared.tree.loader, config, tensors,
        tuple(shards), prepared.dropped, prepared.export, (*prepared.notes, *folded.notes, *decider.warnings),
    )  # fmt: skip


def _config_dtype(config: Config) -> DType:
    for part in (config, config.get("text_config") or {}):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) in SPEC_NAMES:
                return SPEC_NAMES[part[key]]
    return BF16


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
    counts = Counter(
        (t.sources[0], t.shape) for t in weights.values() if len(t.sources) == 1 and _is_whole(t)
    )
    return [f"source tensor {name} is used {n} times" for (name, _), n in counts.items() if n > 1]


def _is_whole(tensor: Tensor) -> bool:
    return isinstance(tensor.node, View) and tensor.nbytes == tensor.node.storage.nbytes


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _reading_order(tensor: Tensor) -> tuple[str, int]:
    """Position of the first stored byte, so that one pass over the plan reads the source front to back."""
    for view in _views(tensor.node):
        return (view.storage.file.path.name if view.storage.file else "", view.storage.offset)
    return ("", 0)


def _views(node: Any) -> Iterable[View]:  # noqa: ANN401
    if isinstance(node, View):
        yield node
        return
    for name in ("child", "operand"):
        if hasattr(node, name):
            yield from _views(getattr(node, name))
    for name in ("parts", "children"):
        for child in getattr(node, name, ()):
            yield from _views(child)
            break


def _stem(info: TensorInfo, options: Options) -> str:
    return "mtp" if info.role is Role.MTP and options.mtp == "split" else "model"


def _parts(info: TensorInfo, spec: Spec, plain: DType) -> list[StoredPart]:
    if isinstance(spec, Plain):
        return [StoredPart(info.name, spec.dtype or info.dtype, info.shape)]
    return [
        StoredPart(f"{info.module}.{part.suffix}", part.dtype, (*info.shape[:-1], part.columns))
        for part in spec.parts(info.shape[-1], plain)
    ]


def _working_dtype(info: TensorInfo, spec: Spec, plain: DType) -> DType:
    return plain if isinstance(spec, Format) else spec.dtype or info.dtype


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as `convx plan --json` prints it."""
    return {
        "architecture": plan.architecture,
        "format": plan.base.spec,
        "recipe": plan.recipe.name if plan.recipe else None,
        "recipe_version": plan.recipe.version if plan.recipe else None,
        "recipe_sha256": plan.recipe.sha256 if plan.recipe else None,
        "loader": plan.loader,
        "parameters": plan.parameters,
        "bits_per_weight": plan.bits_per_weight,
        "total_bytes": plan.total_bytes,
        "overrides": len(plan.overrides),
        "shards": [{"name": s.name, "bytes": s.nbytes} for s in plan.shards],
        "files": sorted(plan.export.files),
        "missing": list(plan.export.missing),
        "warnings": list(plan.warnings),
        "dropped": [{"name": name, "reason": reason} for name, reason in plan.dropped],
        "tensors": [tensor_json(t, plan.source.bare) for t in plan.tensors],
    }


def tensor_json(tensor: PlannedTensor, bare: bool = False) -> dict[str, Any]:
    spec = tensor.decision.spec
    quantized = isinstance(spec, Format)
    place = tensor.info.placement
    return {
        "name": tensor.name,
        "role": str(place.role),
        "layer": place.layer,
        "shape": list(tensor.info.shape),
        "source": [] if bare else list(tensor.tensor.sources),
        "format": tensor.format,
        "mode": spec.mode if quantized else None,
        "bits": spec.bits if quantized else tensor.parts[0].dtype.itemsize * 8,
        "group_size": spec.group_size if quantized else None,
        "bytes": tensor.nbytes,
        "by": tensor.decision.by,
        "reason": tensor.decision.reason,
    }
