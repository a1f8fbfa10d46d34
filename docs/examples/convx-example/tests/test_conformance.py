"""The conformance kit on both plugins."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
from convx_example import clipped, llama
from safetensors.numpy import save_file

from convx.testing import ArchitectureSuite, FormatSuite

HIDDEN, INTERMEDIATE, LAYERS, VOCAB = 64, 128, 2, 96
CONFIG = {
    "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": VOCAB,
    "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip


def make_llama(folder: Path) -> Path:
    """A tiny random Llama in the layout of the Hub."""
    shapes = {
        "model.embed_tokens.weight": (VOCAB, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCAB, HIDDEN),
    }
    for layer in range(LAYERS):
        base = f"model.layers.{layer}"
        shapes |= {
            f"{base}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{base}.self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN),
            f"{base}.self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
            f"{base}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{base}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{base}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{base}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
            f"{base}.input_layernorm.weight": (HIDDEN,),
            f"{base}.post_attention_layernorm.weight": (HIDDEN,),
            f"{base}.self_attn.rotary_emb.inv_freq": (8,),
        }
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: (random.standard_normal(s) * 0.05).astype(ml_dtypes.bfloat16) for n, s in shapes.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


class TestLlama(ArchitectureSuite):
    plugin = llama

    def make_source(self, folder: Path) -> Path:
        return make_llama(folder)


class TestClipped4(FormatSuite):
    plugin = clipped
    relative_error = 0.0905  # plain affine has 0.091
