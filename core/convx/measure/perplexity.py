"""Perplexity: exp of the mean negative log-likelihood of each token after the first of its window.

The definition, the windows and the error are those of mlx_lm.perplexity (`eval_ppl`), streamed in chunks.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from convx.measure.data import Array, Windows
from convx.measure.model import TextModel
from convx.measure.stats import mean_error, trimmed_mean
from convx.measure.steps import Steps


def measure_perplexity(
    model: TextModel, windows: Windows, *, batch: int = 1, steps: Steps | None = None
) -> dict[str, Any]:
    """Perplexity of `windows`, with its errors, its spread over windows, and the speed of measuring it."""
    started = time.perf_counter()
    losses = token_losses(model, windows, batch, steps or Steps())
    seconds = time.perf_counter() - started
    return {**summary(losses), "seconds": seconds, "tokens_per_second": losses.size / seconds}


def token_losses(model: TextModel, windows: Windows, batch: int, steps: Steps) -> Array:
    """Negative log-likelihood of each predicted token, nats: (windows, length - 1) float32."""
    import mlx.core as mx

    steps.begin("perplexity", windows.count)
    losses = np.empty((windows.count, windows.positions), np.float32)
    for first, tokens in windows.batches(batch):
        inputs, targets = mx.array(tokens[:, :-1]), mx.array(tokens[:, 1:])
        step = model.step(len(tokens), windows.positions)
        for start, logits in model.chunks(inputs, step):
            stop = start + logits.shape[1]
            found = loss(logits, targets[:, start:stop])
            losses[first : first + len(tokens), start:stop] = np.array(found)
        steps.advance(len(tokens))
    return losses


def loss(logits: Any, targets: Any) -> Any:  # noqa: ANN401
    """Cross-entropy, nats: logits (batch, n, vocabulary), targets (batch, n) -> (batch, n) float32."""
    import mlx.core as mx

    logits = logits.astype(mx.float32)
    at = mx.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return mx.logsumexp(logits, axis=-1) - at


def summary(losses: Array) -> dict[str, Any]:
    """Losses (windows, positions), nats -> perplexity, its errors, and its spread over windows.

    `standard_error` takes tokens as independent, as mlx_lm does: exp(mean) x the error of the mean.
    `standard_error_windows` takes windows as independent, which neighbouring tokens are not.
    """
    mean, error = mean_error(losses)
    by_window = losses.astype(np.float64).mean(axis=1)
    perplexities = np.exp(by_window)
    perplexity = math.exp(mean)
    return {
        "perplexity": perplexity,
        "standard_error": perplexity * error,
        "standard_error_windows": perplexity * mean_error(by_window)[1],
        "mean_over_windows": float(perplexities.mean()),
        "median_over_windows": float(np.median(perplexities)),
        "trimmed_mean_over_windows": trimmed_mean(perplexities),
        "tokens": int(losses.size),
        "window_nll": [round(float(v), 6) for v in by_window],
    }
