"""Plan an output: every tensor, its bits and why, its file and byte range; pure, and exact to the byte.

A plan is made from headers (or a bare config) and plugins alone. Nothing reads a weight before its plan is
complete and agrees with the parameter tree of the stock loader's own model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from convx.config import quantization_entries, with_dtype, with_quantization
from convx.decide import Decider, TensorInfo
from convx.dtypes import SHORT_NAMES, DType
from convx.export import Export, to_json
from convx.fold import Folded, fold
from convx.formats import Format
from convx.imatrix.files import read_imatrix
from convx.imatrix.names import by_weight
from convx.layout import SHARD_LIMIT, Shard, StoredPart, lay_out
from convx.options import Options
from convx.prepare import Prepared
from convx.recipes.model import RecipeSource
from convx.roles import Role
from convx.source import Config, Source
from convx.specs import Decision, Plain, Spec
from convx.storage import reading_order
from convx.tensors import Tensor

__all__ = ["Plan", "PlannedTensor", "TensorInfo", "make_plan"]


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
        hasher.update(repr(replace(self.options, imatrix=None, target=())).encode())
        if self.options.imatrix:
            hasher.update(Path(self.options.imatrix).read_bytes())
        return hasher.hexdigest()


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
    decider = Decider(prepared.hooks, prepared.config, formats, base, prepared.plain, prepared.options.tensor_overrides)
    if isinstance(base, Plain) and base.dtype is not None:
        decider.plain = base.dtype
    decisions = {info.name: decider.decide(info) for info in prepared.infos}
    decider.check_all_used()
    folded = _folded(prepared, decisions)
    infos = sorted(prepared.infos, key=lambda i: reading_order(prepared.weights[i.name].node))
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
