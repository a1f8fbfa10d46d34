"""A TOML file together with its lines, so that an error can say where it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from convx.errors import RecipeError

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*["']?([^"'=]+?)["']?\s*=""")
_AT = re.compile(r" ?\(at line (\d+), column \d+\)| ?\(at end of document\)")

_Place = tuple[str | None, int, str | None]
"""Table, which of its name, and key. The table is None above the first header, the key is for a header."""


@dataclass(frozen=True)
class Document:
    """`label` is what messages call the file: its path."""

    label: str
    text: str

    @cached_property
    def data(self) -> dict[str, Any]:
        """The parsed file. Raises RecipeError naming the line that is not TOML."""
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            at = _AT.search(str(error))
            line = int(at[1]) if at and at[1] else len(self.text.splitlines())
            raise RecipeError(f"{self.label}:{line}: not TOML: {_AT.sub('', str(error))}") from None

    def where(self, key: str | None = None, table: str | None = None, index: int = 0) -> str:
        """`FILE:LINE` of a key, of a table, or of the key of a table; `index` counts tables of one name."""
        return f"{self.label}:{self._line(key, table, index)}"

    def error(
        self, message: str, key: str | None = None, table: str | None = None, index: int = 0,
        *, hint: str | None = None,
    ) -> RecipeError:  # fmt: skip
        return RecipeError(f"{self.where(key, table, index)}: {message}", hint=hint)

    def _line(self, key: str | None, table: str | None, index: int) -> int:
        found = self._lines
        outer, _, inner = (table or "").rpartition(".")
        sought = [
            (table, index, key),
            (f"{table}.{key}", 0, None),
            (table, index, None),
            (outer, 0, inner),
            (None, 0, table),
        ]
        return next((found[place] for place in sought if place in found), 1)

    @cached_property
    def _lines(self) -> dict[_Place, int]:
        found: dict[_Place, int] = {}
        for place, line in self._places():
            found.setdefault(place, line)
        return found

    def _places(self) -> Iterator[tuple[_Place, int]]:
        """Each header and key with its line; what stands in long strings is passed over."""
        table, index, counts, inside = None, 0, dict[str, int](), False
        for number, line in enumerate(self.text.splitlines(), 1):
            was_inside = inside
            inside ^= (line.count('"""') + line.count("'''")) % 2 == 1
            if was_inside:
                continue
            if header := _HEADER.fullmatch(line):
                table = header[2]
                index = counts.get(table, 0)
                counts[table] = index + 1
                yield (table, index, None), number
            elif key := _KEY.match(line):
                yield (table, index, key[1]), number
