"""Plans in words that machines read: what `convx plan --json` prints and `convx.json` keeps."""

from __future__ import annotations

from typing import Any

from convx.formats import Format
from convx.plan import Plan, PlannedTensor


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
    form = tensor.decision.spec if isinstance(tensor.decision.spec, Format) else None
    place = tensor.info.placement
    return {
        "name": tensor.name,
        "role": str(place.role),
        "layer": place.layer,
        "shape": list(tensor.info.shape),
        "source": [] if bare else list(tensor.tensor.sources),
        "format": tensor.format,
        "mode": form.mode if form else None,
        "bits": form.bits if form else tensor.parts[0].dtype.itemsize * 8,
        "group_size": form.group_size if form else None,
        "bytes": tensor.nbytes,
        "by": tensor.decision.by,
        "reason": tensor.decision.reason,
    }
