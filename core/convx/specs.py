"""SPECs: the short words for how a tensor is stored (`nvfp4`, `affine4:g32`, `bf16`, `keep`), and decisions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from convx.dtypes import SHORT_NAMES, SPEC_NAMES, DType
from convx.errors import RecipeError
from convx.formats import Format

KEEP_RANK = 64


@dataclass(frozen=True)
class Plain:
    """Numbers stored as they are: of `dtype`, or of the source's when `dtype` is None."""

    dtype: DType | None = None

    @property
    def spec(self) -> str:
        return "keep" if self.dtype is None else SHORT_NAMES[self.dtype]


Spec = Format | Plain


@dataclass(frozen=True)
class Decision:
    """How a tensor is stored, why, and who said so: user, recipe, format, floor, refusal or default."""

    spec: Spec
    reason: str
    by: str

    @property
    def quantized(self) -> bool:
        return isinstance(self.spec, Format)


@dataclass(frozen=True)
class Floor:
    """The least that an architecture allows a tensor: a SPEC, and why.

    A decision of fewer bits is raised to it. With `modes`, so is any quantized decision of another mode.
    """

    spec: str
    reason: str
    modes: tuple[str, ...] = ()


def rank(spec: Spec) -> int:
    """Bits an element, to compare decisions with floors; `keep` is the highest."""
    if isinstance(spec, Format):
        return spec.bits
    return KEEP_RANK if spec.dtype is None else spec.dtype.itemsize * 8


_SPEC = re.compile(r"(?P<name>[a-z]+[a-z0-9]*?)(:g(?P<group>\d+))?")


def parse_spec(text: str, formats: Mapping[str, Format]) -> Spec:
    """A SPEC word -> its meaning. Raises RecipeError with the nearest legal word."""
    if text == "keep":
        return Plain()
    if text in SPEC_NAMES:
        return Plain(SPEC_NAMES[text])
    match = _SPEC.fullmatch(text)
    if match is None or match["name"] not in formats:
        raise RecipeError(f"unknown format {text!r}", hint=suggestion(text, [*formats, "bf16", "fp16", "fp32", "keep"]))
    found = formats[match["name"]]
    return found.regrouped(int(match["group"])) if match["group"] else found


def suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    legal = f"known: {', '.join(sorted(known))}"
    return f"did you mean {close[0]!r}? {legal}" if close else legal
