"""A recipe taking part in a run: it decides every weight that one of its rules fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from convx import hookimpl
from convx.decide import TensorInfo
from convx.dtypes import is_float
from convx.errors import RecipeError
from convx.formats import Format
from convx.recipes.expressions import Scope, Value
from convx.recipes.model import Recipe, Rule
from convx.specs import Decision, Spec


class RecipePlugin:
    """`begin` decides for one base and one model; the hook then looks up what was decided."""

    def __init__(
        self,
        recipe: Recipe,
        formats: Mapping[str, Format],
        values: Mapping[str, Value],
        given: Sequence[str] = (),
    ) -> None:
        self.recipe = recipe
        self._scope = Scope(formats, values)
        self._given = given
        self._own_base = recipe.base.resolve(self._scope) if recipe.base else None
        self._decisions: dict[str, Decision] = {}
        self._taken: Counter[Rule] = Counter()
        self._fitted: set[Rule] = set()
        self._roles: set[str] = set()
        self._uses_own_base = True

    @property
    def base(self) -> Spec | None:
        """The base that the recipe would have where --format names none."""
        return None if self._own_base is None else self._replaced(self._own_base)[0]

    def begin(self, base: Spec, tensors: Sequence[TensorInfo]) -> None:
        """Decide the tensors of a model for the base that --format, or the recipe itself, names.

        Widths are reckoned from the recipe's own base as written; replacements come after.
        """
        self._uses_own_base = base == self.base
        reckoned = self._own_base if self._uses_own_base and self._own_base is not None else base
        scope = replace(self._scope, base=reckoned)
        weights = [t for t in tensors if t.quantizable and is_float(t.dtype)]
        model = "moe" if any(t.placement.expert for t in weights) else "dense"
        self._roles = {str(t.role) for t in weights}
        self._decisions, self._taken, self._fitted = {}, Counter(), set()
        for tensor in weights:
            self._decide(tensor, model, scope)

    def _decide(self, tensor: TensorInfo, model: str, scope: Scope) -> None:
        fitting = [rule for rule in self.recipe.rules if rule.fits(tensor, model)]
        self._fitted.update(fitting)
        if fitting:
            self._taken[fitting[0]] += 1
            self._decisions[tensor.name] = self._decision(fitting[0], scope)
        elif self._uses_own_base and self.base is not None:
            self._decisions[tensor.name] = Decision(self.base, f"base of recipe {self.recipe.name}", "format")

    def _decision(self, rule: Rule, scope: Scope) -> Decision:
        name = self.recipe.name
        reason = f"{rule.reason} ({name})" if rule.reason else f"recipe {name}"
        spec, why = rule.spec.resolve(scope), None
        if rule.replaceable:
            spec, why = self._replaced(spec)
        return Decision(spec, f"{reason}, {why}" if why else reason, "recipe")

    def _replaced(self, spec: Spec) -> tuple[Spec, str | None]:
        for entry in self.recipe.replacements:
            if self._scope.values[entry.parameter] is True and entry.old.resolve(self._scope) == spec:
                return entry.new.resolve(self._scope), entry.parameter
        return spec, None

    @hookimpl
    def convx_tensor_predicate(self, tensor: TensorInfo) -> Decision | None:
        return self._decisions.get(tensor.name)

    def check_all_used(self) -> None:
        """Raises RecipeError for a rule that fits no weight, and for a `--set` that changes nothing.

        A rule whose weights were all taken by rules of the same file is as surely a mistake; an inherited
        one may be overruled.
        """
        for rule in self.recipe.rules:
            if rule.optional or self._taken[rule]:
                continue
            if rule not in self._fitted:
                raise RecipeError(f"{rule.where}: the rule fits no weight of this model", hint=self._hint(rule))
            if rule in self.recipe.own_rules:
                raise RecipeError(
                    f"{rule.where}: earlier rules take every weight that this one fits",
                    hint="the first rule wins",
                )
        self._check_settings()

    def _hint(self, rule: Rule) -> str:
        absent = sorted(str(role) for role in (rule.roles or ()))
        here = ", ".join(sorted(self._roles))
        said = f"its weights have the roles {here}" if absent and not self._roles & set(absent) else ""
        return "; ".join(filter(None, [said, "optional = true lets a rule fit nothing"]))

    def _check_settings(self) -> None:
        used = {name for rule in self.recipe.rules for name in rule.spec.names}
        used |= {entry.parameter for entry in self.recipe.replacements}
        if self._uses_own_base and self.recipe.base is not None:
            used |= self.recipe.base.names
        for name in self._given:
            if name not in used:
                raise RecipeError(
                    f"--set {name} changes nothing in recipe {self.recipe.name}",
                    hint="--format stands in for the recipe's own base, which is all that it would change",
                )
