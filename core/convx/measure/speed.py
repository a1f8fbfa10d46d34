"""How fast a checkpoint loads, reads a prompt and writes: seconds, tokens a second, bytes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convx.errors import MeasureError
from convx.measure.model import TextModel, load_text_model
from convx.measure.stats import mean_error
from convx.measure.steps import Steps

CONTEXTS = (1024, 4096)
TRIALS = 5
GENERATED = 128


@dataclass(frozen=True)
class Trial:
    """One prompt: seconds until the first token, seconds for the `tokens` after it, peak bytes of MLX arrays."""

    context: int
    first_token_seconds: float
    tokens: int
    seconds: float
    peak_memory_bytes: int


def load_cold(path: str | Path) -> tuple[TextModel, dict[str, Any]]:
    """Load a checkpoint with its files out of the page cache where the system allows that, and say how long it took.

    The stock loader's imports are done before the clock starts.
    """
    import mlx_lm.utils  # noqa: F401

    dropped = drop_page_cache(Path(path))
    started = time.perf_counter()
    model = load_text_model(path, upcast="needed")
    return model, {"load_seconds": time.perf_counter() - started, "load_from": "disk" if dropped else "page cache"}


def drop_page_cache(folder: Path) -> bool:
    """Ask the system to forget the weights' pages. False where it cannot be asked (macOS)."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def measure_speed(
    model: TextModel,
    *,
    contexts: Sequence[int] = CONTEXTS,
    trials: int = TRIALS,
    generate: int = GENERATED,
    seed: int = 0,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Prefill and generation speed at each context, over `trials` runs after one that warms up and is left out.

    Prompts are random tokens, as in mlx_lm.benchmark: speed does not depend on what a text says.
    """
    if trials < 1 or generate < 2 or min(contexts, default=0) < 1:
        raise MeasureError("speed needs at least one trial, one context and two tokens to generate")
    steps = steps or Steps()
    steps.begin("speed", len(contexts) * (trials + 1))
    rows = []
    for context in contexts:
        done = []
        for number in range(trials + 1):
            done.append(run_trial(model, context, generate, seed + number))
            steps.advance()
        rows.append(summary(done[1:]))
    return {"contexts": rows, "trials": trials, "generated": generate, "max_rss_bytes": max_rss()}


def run_trial(model: TextModel, context: int, generate: int, seed: int) -> Trial:
    """Read a prompt of `context` random tokens, then write `generate` tokens greedily, with mlx-lm's own loop."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    prompt = mx.random.randint(0, model.vocabulary, (context,), key=mx.random.key(seed))
    mx.eval(prompt)
    mx.reset_peak_memory()
    started = time.perf_counter()
    tokens = generate_step(prompt, model.module, max_tokens=generate, prompt_cache=model.new_cache())
    next(tokens)
    first = time.perf_counter()
    count = sum(1 for _ in tokens)
    return Trial(context, first - started, count, time.perf_counter() - first, mx.get_peak_memory())


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Means and standard deviations over trials of one context."""
    prefill = [t.context / t.first_token_seconds for t in trials]
    generation = [t.tokens / t.seconds for t in trials]
    return {
        "context": trials[0].context,
        **_spread("prefill_tokens_per_second", prefill),
        **_spread("generation_tokens_per_second", generation),
        **_spread("first_token_seconds", [t.first_token_seconds for t in trials]),
        "peak_memory_bytes": max(t.peak_memory_bytes for t in trials),
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    mean, error = mean_error(values)
    return {name: mean, f"{name}_std": error * len(values) ** 0.5}


def max_rss() -> int:
    """The most memory that this process has held, bytes (getrusage: KiB on Linux, bytes on macOS)."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
