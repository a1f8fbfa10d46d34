"""The converted model computes what transformers computes: logits against golden files, in float32.

The golden files and the script that made them are in tests/golden.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from support import LAYOUTS, MODELS, load_float32

GOLDEN = Path(__file__).parent.parent / "golden"
TOLERANCE = 1e-3
CASES = [(m, c) for m in MODELS for c in ("text", "image", *(["audio"] if m == "gemma4-e4b" else []))]


def run(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import mlx.core as mx

    model = load_float32(path)
    given = {name: mx.array(value) for name, value in inputs.items()}
    given.pop("mm_token_type_ids", None)
    out = model(given.pop("input_ids"), **given)
    return np.array(getattr(out, "logits", out).astype(mx.float32))[0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("model", "case"), CASES)
def test_logits_agree_with_transformers(tiny, converted, model, case, layout):
    golden = np.load(GOLDEN / f"{model}.npz")
    weights = (tiny(model) / "model.safetensors").read_bytes()
    made_from = str(golden["weights_sha256"])
    assert hashlib.sha256(weights).hexdigest() == made_from, "the tiny checkpoints changed: run make_golden.py again"
    inputs = {k.removeprefix(f"{case}."): golden[k] for k in golden.files if k.startswith(f"{case}.")}
    positions, wanted = inputs.pop("positions"), inputs.pop("logits")
    got = run(converted(model, layout, "bf16"), inputs)[positions]
    assert np.abs(got - wanted).max() <= TOLERANCE
