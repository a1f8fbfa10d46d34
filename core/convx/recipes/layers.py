"""Words for sets of layers: `0..3`, `-1`, `edge(2)`, `first(1/4)`, `every(3) of middle(1/8)`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from convx.errors import RecipeError

Selector = Callable[[int], frozenset[int]]
"""How many layers a model has -> those that are meant."""

_EVERY = re.compile(r"every\((\d+)\)(?:\s+of\s+(.+))?")
_PART = re.compile(r"(edge|middle|first|last)\((\d+)(?:/(\d+))?\)")
_RANGE = re.compile(r"(-?\d+)(?:\.\.(-?\d+))?")


@dataclass(frozen=True)
class Layers:
    """One word or several, of which each adds its layers."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        for word in self.words:
            selector(word)

    def of(self, count: int) -> frozenset[int]:
        return frozenset().union(*(selector(word)(count) for word in self.words))


def selector(word: str) -> Selector:
    """What a word means. Raises RecipeError for a word that means nothing."""
    if match := _EVERY.fullmatch(word):
        return _every(word, int(match[1]), selector(match[2]) if match[2] else _all)
    if match := _PART.fullmatch(word):
        return _part(word, match[1], int(match[2]), int(match[3]) if match[3] else None)
    if match := _RANGE.fullmatch(word):
        return _range(int(match[1]), int(match[2] or match[1]))
    raise RecipeError(
        f"{word!r} names no layers",
        hint="layers are 5, 0..3, -4..-1, edge(2), middle(2), first(1/8), last(1/8), every(3) of ...",
    )


def _all(count: int) -> frozenset[int]:
    return frozenset(range(count))


def _range(first: int, last: int) -> Selector:
    def select(count: int) -> frozenset[int]:
        begin, end = (n + count if n < 0 else n for n in (first, last))
        return frozenset(range(max(0, begin), min(end, count - 1) + 1))

    return select


def _every(word: str, step: int, of: Selector) -> Selector:
    """The step-th, 2 step-th ... of the layers meant: every(4) is 3, 7, 11."""
    if step == 0:
        raise RecipeError(f"{word!r}: every takes a number from 1")
    return lambda count: frozenset(sorted(of(count))[step - 1 :: step])


def _part(word: str, kind: str, number: int, of: int | None) -> Selector:
    if of is not None and not 0 < number <= of:
        raise RecipeError(f"{word!r}: a fraction is more than 0 and at most 1")

    def select(count: int) -> frozenset[int]:
        begin, end = _ends(number, of, count)
        first, last = frozenset(range(begin)), frozenset(range(end, count))
        chosen = {"first": first, "last": last, "edge": first | last, "middle": _all(count) - first - last}
        return chosen[kind]

    return select


def _ends(number: int, of: int | None, count: int) -> Sequence[int]:
    """Where the first part ends and the last part begins; fractions are rounded down from the first layer."""
    if of is None:
        return min(number, count), max(0, count - number)
    return count * number // of, count * (of - number) // of
