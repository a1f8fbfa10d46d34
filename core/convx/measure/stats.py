"""Statistics of measurements: means with their errors, quantiles, and tests of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
TRIM = 0.1
"""Share of the values that a trimmed mean leaves out at each end."""


def mean_error(values: Array | Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, s / sqrt(n) with s from n - 1; the error of one value is 0."""
    array = np.asarray(values, np.float64).reshape(-1)
    if array.size < 2:
        return float(array.mean()), 0.0
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(array.size))


def trimmed_mean(values: Array | Sequence[float], share: float = TRIM) -> float:
    """Mean without the lowest and highest `share` of the values, each rounded down to whole values."""
    array = np.sort(np.asarray(values, np.float64).reshape(-1))
    cut = int(share * array.size)
    return float(array[cut : array.size - cut].mean())


def share_error(share: float, count: int) -> float:
    """Standard error of an observed share: sqrt(p (1 - p) / n)."""
    return math.sqrt(max(0.0, share * (1 - share)) / max(1, count))


@dataclass(frozen=True)
class Paired:
    """The differences b - a of two series of the same windows. p values are two-sided."""

    windows: int
    mean: float
    standard_error: float
    z: float | None
    p: float | None
    b_lower: int
    """In how many windows b is the lower one."""
    sign_p: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare two series window by window: z = mean / standard error under the normal law, and the sign test."""
    difference = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    mean, error = mean_error(difference)
    z = mean / error if error > 0 else None
    lower, higher = int((difference < 0).sum()), int((difference > 0).sum())
    p = math.erfc(abs(z) / math.sqrt(2)) if z is not None else None
    return Paired(difference.size, mean, error, z, p, lower, sign_test(lower, higher))


def sign_test(lower: int, higher: int) -> float:
    """Probability of a split at least this uneven if both signs are equally likely (exact binomial, two-sided)."""
    count, least = lower + higher, min(lower, higher)
    tail = sum(math.comb(count, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**count))


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each point, whether no other is at least as low in both coordinates and lower in one."""
    return [not any(_dominates(other, point) for other in points) for point in points]


def _dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b
