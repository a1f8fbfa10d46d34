"""Make an importance matrix: run the real model in the stock loader and sum the squares of what each linear sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from convx.backend import to_mlx
from convx.dtypes import F32, is_float
from convx.errors import MeasureError
from convx.imatrix.files import Entry, write_imatrix
from convx.imatrix.names import gguf_names
from convx.loaders import build_model
from convx.prepare import Prepared

IMAGE_PROMPT = "Describe this image."
_IMAGES = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass
class Recorder:
    """Sums of squared inputs by module path: (experts, channels), with the number of inputs an expert saw."""

    names: dict[int, str]
    sums: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    def linear(self, module: Any, x: Any) -> None:  # noqa: ANN401
        """x: (..., channels)."""
        import mlx.core as mx

        name = self.names.get(id(module))
        if name is not None:
            flat = x.reshape(-1, x.shape[-1]).astype(mx.float32)
            self._add(name, mx.sum(flat * flat, axis=0, keepdims=True), mx.array([float(flat.shape[0])]))

    def switch(self, module: Any, x: Any, indices: Any) -> None:  # noqa: ANN401
        """x: (..., 1, channels) broadcast against indices (...): which expert each input went to."""
        import mlx.core as mx

        name = self.names.get(id(module))
        if name is None:
            return
        experts, channels = module["weight"].shape[0], x.shape[-1]
        rows = mx.broadcast_to(x.squeeze(-2), (*indices.shape, channels)).reshape(-1, channels).astype(mx.float32)
        chosen = (indices.reshape(-1, 1) == mx.arange(experts)).astype(mx.float32)
        self._add(name, chosen.T @ (rows * rows), chosen.sum(axis=0))

    def _add(self, name: str, sums: Any, counts: Any) -> None:  # noqa: ANN401
        self.sums[name] = self.sums[name] + sums if name in self.sums else sums
        self.counts[name] = self.counts[name] + counts if name in self.counts else counts

    def settle(self) -> None:
        """Evaluate what has gathered, so that nothing of a finished window stays in memory."""
        import mlx.core as mx

        mx.eval(list(self.sums.values()), list(self.counts.values()))


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """While it is open, linears and expert linears of both loaders tell the recorder what they are given."""
    import mlx.nn as nn
    from mlx_lm.models import switch_layers as lm
    from mlx_vlm.models import switch_layers as vlm

    patched: list[tuple[Any, Callable[..., Any]]] = []

    def patch(owner: Any, note: Callable[..., None]) -> None:  # noqa: ANN401
        original = owner.__call__

        def call(module: Any, x: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
            note(module, x, *rest[:1])
            return original(module, x, *rest, **named)

        patched.append((owner, original))
        owner.__call__ = call

    patch(nn.Linear, recorder.linear)
    for owner in {lm.SwitchLinear, vlm.SwitchLinear}:
        patch(owner, recorder.switch)
    try:
        yield
    finally:
        for owner, original in patched:
            owner.__call__ = original


def load_model(prepared: Prepared) -> Any:  # noqa: ANN401
    """The loader's model with the source's weights in float32 (mlx's expert matmul is float32 only on a CPU)."""
    model = build_model(prepared.config, prepared.tree.loader)
    weights = []
    for name in prepared.tree.shapes:
        tensor = prepared.weights[name]
        weights.append((name, to_mlx((tensor.astype(F32) if is_float(tensor.dtype) else tensor).read())))
    model.load_weights(weights, strict=True)
    model.eval()
    return model


def calibrate(
    prepared: Prepared,
    out: Path,
    *,
    text: Path,
    images: Path | None = None,
    length: int = 512,
    windows: int | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Run windows of `length` tokens of `text`, and each image of a folder, and write `out` in the GGUF layout."""
    model = load_model(prepared)
    recorder = Recorder({id(m): name for name, m in model.named_modules()})
    pieces = _windows(prepared, text, length, windows)
    pictures = _pictures(images) if images else []
    with recording(recorder):
        for done, ids in enumerate(pieces):
            _run_text(model, ids)
            recorder.settle()
            watch(done + 1, len(pieces) + len(pictures))
        for done, inputs in enumerate(_image_inputs(prepared, pictures)):
            _run_inputs(model, inputs)
            recorder.settle()
            watch(len(pieces) + done + 1, len(pieces) + len(pictures))
    dataset = f"{text.name} sha256:{sha256(text.read_bytes()).hexdigest()}"
    datasets = [dataset, *(f"image {p.name}" for p in pictures)]
    write_imatrix(out, _entries(recorder, prepared), datasets=datasets, chunks=len(pieces), chunk_size=length)


def _entries(recorder: Recorder, prepared: Prepared) -> dict[str, Entry]:
    by_module = {info.module: info for info in prepared.infos if info.name.endswith(".weight")}
    out = {}
    for name, sums in recorder.sums.items():
        info = by_module.get(name)
        if info is not None:
            out[gguf_names(info)[0]] = Entry(np.array(sums), np.array(recorder.counts[name]))
    return out


def _windows(prepared: Prepared, text: Path, length: int, limit: int | None) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared.source.folder, trust_remote_code=False, local_files_only=True)
    ids = tokenizer.encode(text.read_text(encoding="utf-8"), add_special_tokens=False)
    count = min(len(ids) // length, limit or math.inf)
    if count < 1:
        raise MeasureError(f"{text}: {len(ids)} tokens are fewer than one window of {length}", hint="give more text")
    return [ids[n * length : (n + 1) * length] for n in range(int(count))]


def _pictures(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _IMAGES)
    if not found:
        raise MeasureError(f"{folder}: no images ({', '.join(sorted(_IMAGES))})")
    return found


def _image_inputs(prepared: Prepared, pictures: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Arguments of the forward pass for a prompt with each picture, from the source's own processor."""
    if not pictures:
        return
    from mlx_vlm.prompt_utils import apply_chat_template
    from mlx_vlm.utils import load_processor, prepare_inputs

    processor = load_processor(prepared.source.folder)
    prompt = apply_chat_template(processor, prepared.config, IMAGE_PROMPT, num_images=1)
    for picture in pictures:
        yield dict(prepare_inputs(processor, images=[str(picture)], prompts=prompt))


def _run_text(model: Any, ids: Sequence[int]) -> None:  # noqa: ANN401
    import mlx.core as mx

    _evaluate(model(mx.array([list(ids)])))


def _run_inputs(model: Any, inputs: dict[str, Any]) -> None:  # noqa: ANN401
    inputs = {k: v for k, v in inputs.items() if v is not None and k not in {"attention_mask", "mm_token_type_ids"}}
    _evaluate(model(inputs.pop("input_ids"), **inputs))


def _evaluate(out: Any) -> None:  # noqa: ANN401
    import mlx.core as mx

    mx.eval(getattr(out, "logits", out))
