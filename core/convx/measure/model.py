"""A checkpoint in its stock loader, as a function from tokens to logits, a bounded piece at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from convx.errors import MeasureError

CHUNK_BYTES = 256 << 20
"""Most bytes of float32 logits that a model makes at once: 256 positions of 262,144 tokens."""

Upcast = Literal["all", "needed"]


class LanguagePart:
    """The language model of an mlx-vlm checkpoint behind the interface of an mlx-lm model."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self.inner = model.language_model
        self.layers = self.inner.layers

    def __call__(self, tokens: Any, cache: Any = None) -> Any:  # noqa: ANN401
        return self.inner(tokens, cache=cache).logits

    def make_cache(self) -> Any:  # noqa: ANN401
        from mlx_vlm.models.cache import make_prompt_cache

        return make_prompt_cache(self.inner)


@dataclass(frozen=True)
class TextModel:
    """`module` maps tokens (batch, length) and a cache to logits (batch, length, vocabulary)."""

    path: Path
    loader: str
    module: Any
    compute: str
    """Type of number that the layers compute with."""

    @cached_property
    def vocabulary(self) -> int:
        """Length of the logits; found without computing any, since MLX is lazy."""
        import mlx.core as mx

        return int(self.module(mx.zeros((1, 1), mx.int32)).shape[-1])

    def new_cache(self) -> Any:  # noqa: ANN401
        from mlx_lm.models.cache import make_prompt_cache

        return make_prompt_cache(self.module)

    def step(self, batch: int, length: int, budget: int = CHUNK_BYTES) -> int:
        """Positions at a time so that their float32 logits stay within `budget` bytes."""
        return max(1, min(length, budget // (4 * batch * self.vocabulary)))

    def chunks(self, tokens: Any, step: int) -> Iterator[tuple[int, Any]]:  # noqa: ANN401
        """Tokens (batch, length) -> (first position, logits (batch, up to `step`, vocabulary)), in order.

        A text that needs several chunks goes through the model's own key-value cache, as in prefill.
        """
        import mlx.core as mx

        length = tokens.shape[1]
        if step >= length:
            yield 0, self.module(tokens)
            return
        cache = self.new_cache()
        for start in range(0, length, step):
            logits = self.module(tokens[:, start : start + step], cache=cache)
            mx.eval(logits, [part.state for part in cache])
            yield start, logits
            del logits
            mx.clear_cache()


def load_text_model(path: str | Path, *, upcast: Upcast = "all") -> TextModel:
    """Open a checkpoint in mlx-lm, or in mlx-vlm where mlx-lm does not know it. Its weights are in memory then.

    On a CPU, MLX multiplies gathered experts in float32 only: `all` casts every plain weight and affine scale
    to float32 there, so that all checkpoints are compared in the same arithmetic; `needed` casts only
    unquantized experts. Nothing is cast on a GPU. Raises MeasureError when no loader opens it.
    """
    path = Path(path)
    loader, module = _load_lazily(path)
    prepare_for_device(module, upcast)
    import mlx.core as mx

    mx.eval(module.parameters())
    text = LanguagePart(module) if loader == "mlx-vlm" else module
    return TextModel(path, loader, text, compute_type(module))


def _load_lazily(path: Path) -> tuple[str, Any]:
    from mlx_lm.utils import load_model

    try:
        with silence():
            return "mlx-lm", load_model(path, lazy=True, strict=True)[0]
    except Exception as error:
        if not (isinstance(error, ValueError) and "not supported" in str(error)):
            raise unreadable(path, "mlx-lm", error) from error
    return "mlx-vlm", load_vlm_lazily(path)


def load_vlm_lazily(path: Path) -> Any:  # noqa: ANN401
    from mlx_vlm.utils import load_model

    try:
        with silence():
            return load_model(path, lazy=True, strict=True)
    except Exception as error:
        raise unreadable(path, "mlx-vlm", error) from error


def unreadable(path: Path, loader: str, error: Exception) -> MeasureError:
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return MeasureError(
        f"{path}: {loader} does not open it: {type(error).__name__}: {first}", hint="see what convx verify says of it"
    )


def on_cpu() -> bool:
    import mlx.core as mx

    return bool(mx.default_device() == mx.Device(mx.cpu, 0))


def prepare_for_device(module: Any, upcast: Upcast) -> None:  # noqa: ANN401
    """Cast to float32 what the CPU cannot compute otherwise; see `load_text_model`."""
    import mlx.core as mx

    if not on_cpu():
        return
    if upcast == "all":
        module.set_dtype(mx.float32)
        return
    for _, part in module.named_modules():
        if hasattr(part, "num_experts") and "weight" in part and "scales" not in part:
            part.set_dtype(mx.float32)


def compute_type(module: Any) -> str:  # noqa: ANN401
    """The most common floating type of the parameters, by number of tensors."""
    from collections import Counter

    import mlx.core as mx
    from mlx.utils import tree_flatten

    types = Counter(v.dtype for _, v in tree_flatten(module.parameters()) if mx.issubdtype(v.dtype, mx.floating))
    return str(types.most_common(1)[0][0]).removeprefix("mlx.core.") if types else "unknown"


@contextmanager
def silence() -> Iterator[None]:
    """Keeps what a loader prints off the terminal."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


def free_memory() -> None:
    """Let go of what is no longer referred to, in Python and in MLX."""
    import mlx.core as mx

    gc.collect()
    mx.clear_cache()
