"""Decide how each tensor is stored: user, recipe, format; then floors, refusals and what is left over.

Each step keeps its reason, so that the plan, `convx.json` and the card can say why a tensor is as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from convx.dtypes import DType, is_float
from convx.errors import RecipeError
from convx.formats import Format
from convx.plugins import Hooks
from convx.roles import Placement, Role
from convx.source import Config
from convx.specs import Decision, Floor, Plain, Spec, parse_spec, rank


@dataclass(frozen=True)
class TensorInfo:
    """What a hook is told of an output tensor: its name, its module's path, shape, type and placement."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    placement: Placement
    quantizable: bool

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def role(self) -> Role:
        return self.placement.role


@dataclass
class Decider:
    """The precedence of decisions for one output. `warnings` gathers what people should hear of."""

    hooks: Hooks
    config: Config
    formats: Mapping[str, Format]
    base: Spec
    plain: DType
    overrides: tuple[tuple[str, str], ...] = ()
    warnings: list[str] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._compiled = [(_compile(p), p, self._spec(p, s)) for p, s in self.overrides]

    def decide(self, tensor: TensorInfo) -> Decision:
        wanted = self._user(tensor) or self._asked(tensor)
        wanted = self._floored(tensor, wanted)
        return self._accepted(tensor, wanted)

    def check_all_used(self) -> None:
        """Raises RecipeError for a `--tensor` expression that matched nothing."""
        for pattern, _ in self.overrides:
            if pattern not in self._used:
                raise RecipeError(
                    f"--tensor {pattern!r} matches no tensor",
                    hint="it is searched for in module paths, which convx plan --json lists",
                )

    def _spec(self, pattern: str, word: str) -> Spec:
        try:
            return parse_spec(word, self.formats)
        except RecipeError as error:
            raise RecipeError(f"--tensor {pattern}={word}: {error.message}", hint=error.hint) from None

    def _user(self, tensor: TensorInfo) -> Decision | None:
        found = None
        for expression, pattern, spec in self._compiled:
            if expression.search(tensor.module):
                self._used.add(pattern)
                found = Decision(spec, f"--tensor {pattern}={spec.spec}", "user")
        if found is None or tensor.quantizable or not found.quantized:
            return found
        self.warnings.append(f"{tensor.module}: the loaders hold it only unquantized, so {found.reason} is not applied")
        return None

    def _asked(self, tensor: TensorInfo) -> Decision:
        if not is_float(tensor.dtype):
            return Decision(Plain(), "holds no weights", "default")
        if not tensor.quantizable:
            return Decision(Plain(self.plain), "the loaders hold it only unquantized", "default")
        asked = self.hooks.tensor_predicate(tensor, self.config)
        return asked or Decision(self.base, f"--format {self.base.spec}", "format")

    def _floored(self, tensor: TensorInfo, decision: Decision) -> Decision:
        floors = self.hooks.tensor_floors(tensor, self.config)
        if not floors:
            return decision
        minimum, floor = max(
            ((parse_spec(f.spec, self.formats), f) for f in floors),
            key=lambda found: (rank(found[0]), found[1].modes),
        )
        if all(_meets(decision.spec, f, parse_spec(f.spec, self.formats)) for f in floors):
            return decision
        if decision.by == "user":
            self.warnings.append(
                f"{tensor.module}: {decision.reason} is applied, below the floor {floor.spec} ({floor.reason})"
            )
            return decision
        return Decision(minimum, f"{floor.reason} (floor)", "floor")

    def _accepted(self, tensor: TensorInfo, decision: Decision) -> Decision:
        """The decision, or the nearest one that the format can store, as a decision of its own."""
        spec = decision.spec
        if not isinstance(spec, Format):
            return decision
        refusal = spec.refusal(tensor.shape)
        if refusal is None:
            return decision
        smaller = sorted((g for g in spec.group_sizes if g < spec.group_size), reverse=True)
        for group_size in smaller:
            other = spec.regrouped(group_size)
            if other.refusal(tensor.shape) is None:
                return self._fallback(tensor, other, f"{refusal}; group size {group_size} ({decision.reason})")
        plain = Plain(self.plain)
        return self._fallback(tensor, plain, f"{refusal}; kept in {plain.spec} ({decision.reason})")

    def _fallback(self, tensor: TensorInfo, spec: Spec, reason: str) -> Decision:
        self.warnings.append(f"{tensor.module}: {reason}")
        return Decision(spec, reason, "refusal")


def _meets(spec: Spec, floor: Floor, minimum: Spec) -> bool:
    if rank(spec) < rank(minimum):
        return False
    return not (isinstance(spec, Format) and floor.modes and spec.mode not in floor.modes)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise RecipeError(f"--tensor {pattern!r} is not a regular expression: {error}") from None
