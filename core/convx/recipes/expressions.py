"""What a recipe may say for a SPEC: a word, the base, or widths reckoned from parameters and the base.

A *family* is the formats whose names differ only in their bits: affine2 ... affine8; mxfp4 and mxfp8.
A reckoned width is rounded up to the next one that the family has, and never exceeds the widest format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from convx.errors import RecipeError
from convx.formats import Format
from convx.specs import Plain, Spec, parse_spec, suggestion

Value = int | bool | str

FALLBACK = "affine"
"""The family of bases that have none wide enough, and of bases that are not quantized."""

_NUMBER = r"(?:\d+|\{[^{}]*\})"
_BASE = re.compile(rf"base(?:(?P<operator>@|>=|\+|-)(?P<number>{_NUMBER}))?")
_WIDTH = re.compile(rf"(?P<family>[a-z]+)(?P<width>\{{[^{{}}]*\}})(?::g(?P<group>{_NUMBER}))?")
_GROUP = re.compile(r"(?P<word>[a-z]+\d*):g(?P<group>\{[^{}]*\})")
_WHOLE = re.compile(r"\{(\w+)\}")
_SUM = re.compile(r"\s*([a-z_]\w*)\s*(?:([+-])\s*(\d+))?\s*")


@dataclass(frozen=True)
class Scope:
    """What a SPEC expression is read against: formats on offer, parameters, and the base of the plan."""

    formats: Mapping[str, Format]
    values: Mapping[str, Value]
    base: Spec | None = None


@dataclass(frozen=True)
class SpecExpression:
    """The text of a `spec`, where it stands, and its meaning in a scope."""

    text: str
    where: str = field(default="", compare=False)

    @property
    def names(self) -> frozenset[str]:
        """The parameters that it speaks of."""
        return frozenset(re.findall(r"\{\s*([a-z_]\w*)", self.text)) - {"base"}

    def resolve(self, scope: Scope) -> Spec:
        """Raises RecipeError, naming file and line, when it is no SPEC or none that exists."""
        try:
            return self._resolve(scope)
        except RecipeError as error:
            raise RecipeError(f"{self.where}: {error.message}", hint=error.hint) from None

    def _resolve(self, scope: Scope) -> Spec:
        if match := _BASE.fullmatch(self.text):
            return _of_base(match["operator"], match["number"], scope)
        if match := _WIDTH.fullmatch(self.text):
            found = _at_least(match["family"], _number(match["width"], scope), scope)
            return found.regrouped(_number(match["group"], scope)) if match["group"] else found
        if match := _GROUP.fullmatch(self.text):
            return parse_spec(f"{match['word']}:g{_number(match['group'], scope)}", scope.formats)
        if match := _WHOLE.fullmatch(self.text):
            return parse_spec(str(_value(match[1], scope)), scope.formats)
        return parse_spec(self.text, scope.formats)


def _of_base(operator: str | None, number: str | None, scope: Scope) -> Spec:
    """base; base@6: six bits in its family; base>=6: the base, or that; base+2: two bits more."""
    base = scope.base
    if base is None:
        raise RecipeError("a recipe's own base cannot speak of the base")
    if operator is None or number is None:
        return base
    width = _number(number, scope)
    if operator in {"+", "-"}:
        return _in_family(base, _bits(base) + (width if operator == "+" else -width), scope)
    if number.isdigit():
        _require_width(width, scope)
    if operator == ">=" and (isinstance(base, Plain) or base.bits >= width):
        return base
    return _in_family(base, width, scope)


def _bits(base: Spec) -> int:
    if isinstance(base, Plain):
        raise RecipeError(f"the base {base.spec} has no bits to reckon from", hint="give a quantized --format")
    return base.bits


def _in_family(base: Spec, width: int, scope: Scope) -> Spec:
    """The format of a width that is most like the base: its mode and, where legal, its group size."""
    if isinstance(base, Plain):
        return _at_least(FALLBACK, width, scope)
    if base.bits == width:
        return base
    found = _at_least(_stem(base.name), width, scope)
    alike = found.mode == base.mode and base.group_size in found.group_sizes
    return found.regrouped(base.group_size) if alike else found


def _at_least(family: str, width: int, scope: Scope) -> Format:
    """The narrowest format of a family with at least `width` bits; of affine, where the family has none."""
    widest = max(_widths(scope))
    members = {f.bits: f for name, f in scope.formats.items() if _stem(name) == family}
    if not members:
        raise RecipeError(f"no format {family}N", hint=suggestion(family, sorted({_stem(n) for n in scope.formats})))
    fitting = [bits for bits in sorted(members) if bits >= min(width, widest)]
    if not fitting and family != FALLBACK:
        return _at_least(FALLBACK, width, scope)
    return members[fitting[0] if fitting else max(members)]


def _require_width(width: int, scope: Scope) -> None:
    if width not in _widths(scope):
        known = ", ".join(map(str, sorted(_widths(scope))))
        raise RecipeError(f"no format has {width} bits", hint=f"known: {known}")


def _widths(scope: Scope) -> set[int]:
    return {f.bits for f in scope.formats.values()}


def _stem(name: str) -> str:
    return name.rstrip("0123456789")


def _number(text: str, scope: Scope) -> int:
    """A number, or one reckoned in braces: {bits}, {bits+1}, {base-2}."""
    if text.isdigit():
        return int(text)
    match = _SUM.fullmatch(text[1:-1])
    if match is None:
        raise RecipeError(f"{text!r} is not a number", hint="write {NAME}, {NAME+1} or {NAME-1}")
    start = _bits(scope.base) if match[1] == "base" and scope.base is not None else _value(match[1], scope)
    if isinstance(start, bool) or not isinstance(start, int):
        raise RecipeError(f"parameter {match[1]!r} is not a number, so it gives no width")
    step = int(match[3] or 0)
    return start - step if match[2] == "-" else start + step


def _value(name: str, scope: Scope) -> Value:
    if name not in scope.values:
        raise RecipeError(f"unknown parameter {name!r}", hint=suggestion(name, [*scope.values, "base"]))
    return scope.values[name]
