"""Progress of measurements: which one runs, and how much of it is done."""

from __future__ import annotations


class Steps:
    """Progress that nobody watches; the command line draws it."""

    def begin(self, name: str, total: int = 0) -> None:
        """A measurement, or a part of one, of `total` steps begins."""

    def advance(self, steps: int = 1) -> None: ...
