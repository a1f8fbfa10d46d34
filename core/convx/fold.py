"""Groups of linears whose input channels can be scaled against the tensor that feeds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FoldGroup:
    """`before` is divided, and each of `linears` multiplied, by one factor an input channel.

    `before` names a norm's weight (a vector over channels) or a linear whose output rows are the channels;
    `offset` is what the model adds to the norm's weight (0 for `x * w`, 1 for `x * (1 + w)`). With experts
    the linears are stacked: (E, rows, channels).
    """

    before: str
    linears: tuple[str, ...]
    offset: float = 0.0
