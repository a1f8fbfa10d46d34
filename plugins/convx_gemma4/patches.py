"""Repairs of published Gemma 4 checkpoints, as data."""

from __future__ import annotations

from convx import Checkpoint, Config, JsonPatch, Patch, TensorPatch, hookimpl

PROJECTORS = ("embed_vision.embedding_projection", "embed_audio.embedding_projection")


@hookimpl
def convx_post_save_patch(checkpoint: Checkpoint, config: Config) -> list[Patch]:
    """A projector stored without `biases` is one that several loaders cannot open (mlx-engine#301): make it whole.

    The stored values are decoded, so the model computes what it did before.
    """
    patches: list[Patch] = []
    if checkpoint.fresh:
        return patches
    for module in PROJECTORS:
        names = checkpoint.tensors
        if f"{module}.scales" not in names or f"{module}.biases" in names:
            continue
        patches.append(TensorPatch(f"{module}.scales", None))
        patches.append(TensorPatch(f"{module}.weight", checkpoint.decoded(module)))
        for key in ("quantization", "quantization_config"):
            patches.append(JsonPatch("config.json", (key, module), False))
    return patches
