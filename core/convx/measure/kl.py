"""Kullback-Leibler divergence of a model from its reference, position by position, in nats."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from convx.errors import MeasureError
from convx.measure.data import Array, Windows
from convx.measure.distributions import Distribution
from convx.measure.model import TextModel
from convx.measure.perplexity import summary as perplexity_summary
from convx.measure.stats import mean_error, share_error
from convx.measure.steps import Steps


class Reference(Protocol):
    """Where the reference's predictions come from: a model in memory, or a file."""

    @property
    def name(self) -> str: ...
    @property
    def method(self) -> str: ...
    def require(self, windows: Windows) -> None: ...
    def chunks(self, first: int, tokens: Any, step: int) -> Iterator[Distribution]: ...  # noqa: ANN401


def measure_kl(
    model: TextModel, reference: Reference, windows: Windows, *, batch: int = 1, steps: Steps | None = None
) -> dict[str, Any]:
    """KL(reference || model) over all positions of `windows`, and both perplexities, from one pass.

    Two models go through each chunk of positions together; no more than a chunk's logits exist of each.
    """
    reference.require(windows)
    started = time.perf_counter()
    kl, agree, losses, reference_losses = _compare(model, reference, windows, batch, steps or Steps())
    values = {
        **summary(kl, agree),
        "method": reference.method,
        "model": perplexity_summary(losses),
        "seconds": time.perf_counter() - started,
    }
    if reference_losses is not None:
        values["reference"] = perplexity_summary(reference_losses)
    return values


def _compare(
    model: TextModel, reference: Reference, windows: Windows, batch: int, steps: Steps
) -> tuple[Array, Array, Array, Array | None]:
    """Arrays (windows, positions): divergence, agreement, the model's losses and the reference's."""
    import mlx.core as mx

    shape = (windows.count, windows.positions)
    kl, losses, known = (np.empty(shape, np.float32) for _ in range(3))
    agree = np.empty(shape, np.bool_)
    has_losses = True
    steps.begin("kl", windows.count)
    for first, tokens in windows.batches(batch):
        inputs, targets = mx.array(tokens[:, :-1]), mx.array(tokens[:, 1:])
        step = model.step(len(tokens), windows.positions)
        rows = slice(first, first + len(tokens))
        pairs = zip(model.chunks(inputs, step), reference.chunks(first, inputs, step), strict=True)
        for (start, logits), expected in pairs:
            _refuse_other_vocabulary(logits, expected)
            at = slice(start, start + logits.shape[1])
            found = expected.compare(logits, targets[:, at])
            kl[rows, at], agree[rows, at] = np.array(found.kl), np.array(found.agree)
            losses[rows, at] = np.array(found.loss)
            has_losses = found.reference_loss is not None
            if has_losses:
                known[rows, at] = np.array(found.reference_loss)
        steps.advance(len(tokens))
    return kl, agree, losses, known if has_losses else None


def _refuse_other_vocabulary(logits: Any, expected: Distribution) -> None:  # noqa: ANN401
    whole = getattr(expected, "logits", None)
    if whole is not None and whole.shape[-1] != logits.shape[-1]:
        raise MeasureError(
            f"the model has {logits.shape[-1]} tokens, the reference {whole.shape[-1]}",
            hint="the reference must be what the model was converted from, or a sibling of it",
        )


def summary(kl: Array, agree: Array) -> dict[str, Any]:
    """Divergences and agreement (windows, positions) -> mean, errors, quantiles, share of equal first choices.

    `standard_error` takes positions as independent; `standard_error_windows` windows only.
    """
    mean, error = mean_error(kl)
    by_window = kl.astype(np.float64).mean(axis=1)
    top = float(agree.mean())
    median, p95, p99 = (float(v) for v in np.quantile(kl, (0.5, 0.95, 0.99)))
    return {
        "mean": mean,
        "standard_error": error,
        "standard_error_windows": mean_error(by_window)[1],
        "median": median,
        "p95": p95,
        "p99": p99,
        "max": float(kl.max()),
        "top1_agreement": top,
        "top1_agreement_error": share_error(top, agree.size),
        "positions": int(kl.size),
        "window_kl": [round(float(v), 8) for v in by_window],
    }
