"""What the reference model predicts at some positions, whole or compressed, and how far a model is from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

SLICE_BYTES = 64 << 20
"""Bytes of float32 logits that are compared at once; several arrays of this size exist meanwhile."""


@dataclass(frozen=True)
class Comparison:
    """At each position, (batch, n) each: divergence, nats; whether both favour one token; losses, nats.

    `reference_loss` is None where the reference is compressed and its loss of a rare token unknown.
    """

    kl: Any
    agree: Any
    loss: Any
    reference_loss: Any


class Distribution(Protocol):
    """Predictions for some positions, (batch, n, ...)."""

    def compare(self, logits: Any, targets: Any) -> Comparison:  # noqa: ANN401
        """Compare a model's logits (batch, n, vocabulary) at the same positions; targets (batch, n)."""
        ...


@dataclass(frozen=True)
class Whole:
    """Every token's logit (or log-probability): (batch, n, vocabulary)."""

    logits: Any

    def compare(self, logits: Any, targets: Any) -> Comparison:  # noqa: ANN401
        """KL(p || q) = sum p (log p - log q) over the vocabulary, p the reference."""
        import mlx.core as mx

        pieces = []
        for part in slices(logits):
            p, q = normalized(self.logits[:, part]), normalized(logits[:, part])
            kl = mx.sum(mx.exp(p) * (p - q), axis=-1)
            agree = mx.argmax(p, axis=-1) == mx.argmax(q, axis=-1)
            at = targets[:, part]
            pieces.append((kl, agree, -picked(q, at), -picked(p, at)))
            mx.eval(pieces[-1])
        return Comparison(*joined(pieces))


@dataclass(frozen=True)
class Top:
    """The likeliest tokens, (batch, n, k) in falling order, and the log of what is left, (batch, n).

    The rest counts as one outcome. Merging outcomes can only lower a divergence, so this is a lower bound.
    """

    indices: Any
    logprobs: Any
    tail: Any

    def compare(self, logits: Any, targets: Any) -> Comparison:  # noqa: ANN401
        """KL(p || q) over k + 1 outcomes."""
        import mlx.core as mx

        pieces = []
        for part in slices(logits):
            q = normalized(logits[:, part])
            p, tail = self.logprobs[:, part], self.tail[:, part]
            own = mx.take_along_axis(q, self.indices[:, part], axis=-1)
            kl = mx.sum(mx.exp(p) * (p - own), axis=-1) + _rest(tail, own)
            agree = self.indices[:, part, 0] == mx.argmax(q, axis=-1)
            pieces.append((kl, agree, -picked(q, targets[:, part])))
            mx.eval(pieces[-1])
        kl, agree, loss = joined(pieces)
        return Comparison(kl, agree, loss, None)


def _rest(tail: Any, own: Any) -> Any:  # noqa: ANN401
    """The term of the merged outcome: p log(p / q), and 0 where p has nothing left."""
    import mlx.core as mx

    left = mx.maximum(1 - mx.sum(mx.exp(own), axis=-1), 1e-12)
    term = mx.exp(tail) * (tail - mx.log(left))
    return mx.where(mx.isinf(tail), 0.0, term)


def slices(logits: Any, budget: int = SLICE_BYTES) -> list[slice]:  # noqa: ANN401
    """Runs of positions whose float32 logits take at most `budget` bytes."""
    batch, count, vocabulary = logits.shape
    step = max(1, budget // (4 * batch * vocabulary))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def joined(pieces: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Runs of positions put together again: tuples of (batch, run, ...) -> arrays (batch, n, ...)."""
    import mlx.core as mx

    return [mx.concatenate(list(column), axis=1) for column in zip(*pieces, strict=True)]


def normalized(logits: Any) -> Any:  # noqa: ANN401
    """Logits -> log-probabilities, float32, along the last axis."""
    import mlx.core as mx

    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def picked(logprobs: Any, targets: Any) -> Any:  # noqa: ANN401
    """(batch, n, vocabulary) at tokens (batch, n) -> (batch, n)."""
    import mlx.core as mx

    return mx.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]


def compress(logits: Any, k: int) -> Top:  # noqa: ANN401
    """The `k` likeliest tokens of logits (batch, n, vocabulary), and the log of the rest's probability."""
    import mlx.core as mx

    pieces = []
    for part in slices(logits):
        p = normalized(logits[:, part])
        indices = mx.argpartition(-p, kth=k - 1, axis=-1)[..., :k]
        values = mx.take_along_axis(p, indices, axis=-1)
        order = mx.argsort(-values, axis=-1)
        values = mx.take_along_axis(values, order, axis=-1)
        rest = mx.put_along_axis(p, indices, mx.array(-float("inf"), mx.float32), axis=-1)
        pieces.append((mx.take_along_axis(indices, order, axis=-1), values, mx.logsumexp(rest, axis=-1)))
        mx.eval(pieces[-1])
    return Top(*joined(pieces))
