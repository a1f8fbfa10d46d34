"""What a finished conversion tells: where it is, what was written, how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convx.plan import Plan


@dataclass(frozen=True)
class Report:
    path: Path
    plan: Plan
    seconds: float
    resumed_bytes: int = 0
    warnings: tuple[str, ...] = ()
