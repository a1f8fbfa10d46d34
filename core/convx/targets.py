"""Will the result open in a given loader? Checked on the plan, before any weight is read.

What each loader reads of `config.json` is data here where it can be, and one small function where it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from convx.config import QUANTIZATION_KEYS
from convx.errors import PlanError, UsageError
from convx.formats import Format
from convx.loaders import model_tree_of
from convx.plan import Plan
from convx.specs import suggestion

Check = Callable[[Plan], Iterator[str]]
"""Every breach of one rule: `TENSOR: what is wrong`."""

LEGAL: Mapping[str, tuple[frozenset[int], frozenset[int]]] = {
    "affine": (frozenset({2, 3, 4, 5, 6, 8}), frozenset({32, 64, 128})),
    "mxfp4": (frozenset({4}), frozenset({32})),
    "mxfp8": (frozenset({8}), frozenset({32})),
    "nvfp4": (frozenset({4}), frozenset({16})),
}
"""mode -> bits and group sizes for which mlx has kernels."""

SETTINGS = frozenset({"group_size", "bits", "mode", "quant_method", "linear_class", "quantization_mode"})
"""Keys that mlx-swift-lm takes for settings; it decodes every other one as a module's entry."""

PROJECTOR = r"embed_vision\.embedding_projection"
NODE_AFFINE = rf"(?:^|\.)(?:lm_head|router\.proj|embed_tokens\w*|{PROJECTOR})"


def check_targets(plan: Plan, targets: tuple[str, ...]) -> None:
    """Raises PlanError naming loader, tensor and rule when one of the loaders could not open the result."""
    breaches = [f"{target}: {breach}" for target in targets for check in _checks(target) for breach in check(plan)]
    if breaches:
        shown = "\n  ".join(breaches[:10])
        more = f"\n  and {len(breaches) - 10} more" if len(breaches) > 10 else ""
        raise PlanError(
            f"the plan does not fit --target:\n  {shown}{more}",
            hint="--tensor REGEX=SPEC changes single modules",
        )


def _checks(target: str) -> tuple[Check, ...]:
    if target not in TARGETS:
        raise UsageError(f"unknown --target {target!r}", hint=suggestion(target, list(TARGETS)))
    return TARGETS[target]


def _quantized(plan: Plan) -> Iterator[tuple[str, Format]]:
    for tensor in plan.tensors:
        if isinstance(tensor.decision.spec, Format):
            yield tensor.info.module, tensor.decision.spec


def legal(plan: Plan) -> Iterator[str]:
    """Every quantized module is of a mode, width and group size that mlx computes with."""
    for module, spec in _quantized(plan):
        bits, groups = LEGAL.get(spec.mode, (frozenset(), frozenset()))
        if spec.bits not in bits or spec.group_size not in groups:
            yield f"{module}: mlx has no {spec.mode} of {spec.bits} bits in groups of {spec.group_size}"


def described(plan: Plan) -> Iterator[str]:
    """The config says of every quantized module, by its exact path or at the top level, how it is stored."""
    top = plan.config.get("quantization") or {}
    overall = {key: top.get(key) for key in ("group_size", "bits", "mode")}
    for module, spec in _quantized(plan):
        if top.get(module, overall) != spec.config_entry():
            yield f"{module}: is {spec.spec}, but the config says {top.get(module, overall)}"


def twice_the_same(plan: Plan) -> Iterator[str]:
    """`quantization` and `quantization_config` are equal."""
    first, second = (plan.config.get(key) for key in QUANTIZATION_KEYS)
    if first != second:
        yield "config.json: quantization and quantization_config differ"


def only_modules(plan: Plan) -> Iterator[str]:
    """Whatever is no setting inside `quantization` is the entry of a module."""
    for key, value in (plan.config.get("quantization") or {}).items():
        if key not in SETTINGS and value is not False and not isinstance(value, dict):
            yield f"config.json: quantization.{key}: is neither a setting that it knows nor a module's entry"


def affine_only(pattern: str) -> Check:
    """Modules whose path ends so are affine, or not quantized."""

    def check(plan: Plan) -> Iterator[str]:
        for module, spec in _quantized(plan):
            if spec.mode != "affine" and re.search(rf"{pattern}$", module):
                yield f"{module}: is {spec.spec}, but it is read as affine only"

    return check


def loads_in(loader: str) -> Check:
    """The loader's own model can hold every quantized module so, and lacks no tensor."""

    def check(plan: Plan) -> Iterator[str]:
        try:
            tree = model_tree_of(plan.config, loader)
        except PlanError as error:
            yield error.message
            return
        planned = {tensor.name: tensor.info.shape for tensor in plan.tensors}
        absent = set() if loader == "mlx-lm" else _parts(tree.shapes) - _parts(planned)
        missing = [name for name in tree.shapes if name not in planned and _part(name) not in absent]
        if missing:
            yield f"{missing[0]}: is one of {len(missing)} tensors that it needs and the plan has not"
        for name in tree.shapes.keys() & planned.keys():
            if planned[name] != tree.shapes[name]:
                yield f"{name}: has shape {planned[name]}, expected {tree.shapes[name]}"
        for module, spec in _quantized(plan):
            if f"{module}.weight" in tree.shapes and module not in tree.quantizable:
                yield f"{module}: is {spec.spec}, but can only be held unquantized"

    return check


def _part(name: str) -> str:
    return name.partition(".")[0]


def _parts(names: Iterable[str]) -> set[str]:
    """Vision tower, audio tower, language model ...; mlx-vlm does without one that has no tensor at all."""
    return {_part(name) for name in names}


def loads_in_lm_studio(plan: Plan) -> Iterator[str]:
    """LM Studio's engine opens whatever has a `vision_config` in mlx-vlm, and the rest in mlx-lm."""
    yield from loads_in("mlx-vlm" if "vision_config" in plan.config else "mlx-lm")(plan)


TARGETS: Mapping[str, tuple[Check, ...]] = {
    "mlx-lm": (legal, described, loads_in("mlx-lm")),
    "mlx-vlm": (legal, described, loads_in("mlx-vlm")),
    "lmstudio": (legal, described, loads_in_lm_studio, affine_only(PROJECTOR)),
    "mlx-swift": (legal, described, only_modules),
    "mlx-node": (legal, described, twice_the_same, affine_only(NODE_AFFINE)),
}
