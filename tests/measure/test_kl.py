"""Divergence from a reference: against float64, against itself, from files whole and compressed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convx.errors import MeasureError
from convx.measure.distributions import Whole, compress
from convx.measure.kl import measure_kl
from convx.measure.logits import open_logits, save_logits
from convx.measure.model import load_text_model
from convx.measure.reference import LiveReference, reference_model
from convx.measure.run import Settings, measure


@pytest.fixture(scope="module")
def models(tiny, converted):
    source, path = tiny("gemma4-moe"), converted("gemma4-moe", "hub", "affine4")
    return LiveReference(load_text_model(source), "source"), load_text_model(path), path


def float64_logits(model, windows):
    import mlx.core as mx

    return np.array(model.module(mx.array(windows.tokens[:, :-1])).astype(mx.float32)).astype(np.float64)


def float64_kl(reference, model):
    p, q = log_softmax(reference), log_softmax(model)
    return (np.exp(p) * (p - q)).sum(-1)


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_it_is_that_of_float64(models, windows):
    reference, model, path = models
    cut = windows(path)
    found = measure_kl(model, reference, cut)
    p, q = float64_logits(reference.model, cut), float64_logits(model, cut)
    kl = float64_kl(p, q)
    assert found["mean"] == pytest.approx(kl.mean(), rel=1e-3)
    assert found["p95"] == pytest.approx(np.quantile(kl, 0.95), rel=1e-3)
    assert found["max"] == pytest.approx(kl.max(), rel=1e-3)
    assert found["standard_error"] == pytest.approx(kl.std(ddof=1) / kl.size**0.5, rel=1e-3)
    assert found["top1_agreement"] == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())
    assert found["window_kl"] == pytest.approx(kl.mean(-1), abs=1e-5)
    assert found["positions"] == kl.size == 3 * 23


def test_both_perplexities_come_with_it(models, windows):
    from convx.measure.perplexity import measure_perplexity

    reference, model, path = models
    found = measure_kl(model, reference, windows(path), batch=2)
    for side, loaded in (("model", model), ("reference", reference.model)):
        alone = measure_perplexity(loaded, windows(path))
        assert found[side]["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-5)


def test_a_model_does_not_diverge_from_itself(models, windows):
    reference, _, path = models
    found = measure_kl(reference.model, reference, windows(path))
    assert (found["mean"], found["max"], found["top1_agreement"]) == (0, 0, 1)


def test_predictions_can_be_kept_whole(models, windows, tmp_path):
    reference, model, path = models
    cut = windows(path)
    saved = save_logits(tmp_path / "kept", reference.model, cut, top_k=None)
    assert saved.method == "exact"
    live, again = measure_kl(model, reference, cut), measure_kl(model, open_logits(tmp_path / "kept"), cut)
    assert again["mean"] == pytest.approx(live["mean"], rel=1e-4)
    assert again["reference"]["perplexity"] == pytest.approx(live["reference"]["perplexity"], rel=1e-5)


def test_predictions_can_be_kept_compressed(models, windows, tmp_path):
    """Merging rare tokens into one outcome can only lower a divergence, and less so with more tokens kept."""
    reference, model, path = models
    cut = windows(path)
    exact = measure_kl(model, reference, cut)["mean"]
    found = []
    for k in (8, 64, 319):
        saved = save_logits(tmp_path / f"top-{k}", reference.model, cut, top_k=k)
        assert saved.method == f"top {k} and tail"
        values = measure_kl(model, saved, cut)
        assert "reference" not in values
        found.append(values["mean"])
    assert found[0] < found[1] < found[2] == pytest.approx(exact, rel=1e-4)
    assert (tmp_path / "top-8").stat().st_size < 3 * 23 * 8 * 10 + 2000


def test_compression_keeps_the_likeliest_and_the_mass_of_the_rest():
    import mlx.core as mx

    probabilities = np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32)
    top = compress(mx.array(np.log(probabilities))[None, None] + 3, 2)
    assert np.array(top.indices).tolist() == [[[1, 3]]]
    assert np.exp(np.array(top.logprobs))[0, 0] == pytest.approx([0.4, 0.3])
    assert float(mx.exp(top.tail).item()) == pytest.approx(0.3)


def test_a_certain_reference_has_a_finite_divergence():
    import mlx.core as mx

    certain = mx.array([[[0.0, -1e4, -1e4]]])
    even = mx.zeros((1, 1, 3))
    targets = mx.zeros((1, 1), mx.int32)
    for reference in (Whole(certain), compress(certain, 1), compress(certain, 2)):
        assert reference.compare(even, targets).kl.item() == pytest.approx(np.log(3), rel=1e-5)


def test_a_file_from_other_windows_is_refused(models, windows, tmp_path):
    reference, model, path = models
    saved = save_logits(tmp_path / "kept", reference.model, windows(path, 2, 24), top_k=4)
    with pytest.raises(MeasureError, match="other windows"):
        measure_kl(model, saved, windows(path, 3, 24))
    (tmp_path / "empty").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(MeasureError, match="no reference logits"):
        open_logits(tmp_path / "empty")


def test_another_model_is_no_reference(models, windows, tiny):
    _, model, path = models
    other = LiveReference(load_text_model(tiny("qwen35-moe", vocab=352)), "other")
    with pytest.raises(MeasureError, match="tokenizer"):
        measure_kl(model, other, windows(path))


def test_a_source_that_no_loader_opens_is_converted_on_the_way(tiny, converted, windows):
    """Sources saved by transformers 5 do not load in mlx-lm as they are."""
    path = converted("gemma4-moe", "transformers5", "affine8")
    with reference_model(tiny("gemma4-moe", "transformers5")) as (model, name):
        found = measure_kl(load_text_model(path), LiveReference(model, name), windows(path, 2, 16))
    assert 0 < found["mean"] < 0.05


def test_results_go_into_the_record(own_copy, tiny, text):
    path = own_copy("gemma4-moe", "hub", "affine4")
    settings = Settings(text=text, windows=2, length=16, reference=str(tiny("gemma4-moe")))
    for _ in range(2):
        measure(path, ["perplexity", "kl"], settings)
    kept = json.loads((path / "convx.json").read_text())["measurements"]
    assert [len(kept[kind]) for kind in ("perplexity", "kl")] == [1, 1]  # the same settings replace the earlier
    entry = kept["kl"][0]
    assert entry["settings"]["method"] == "exact" and len(entry["settings"]["data_sha256"]) == 64
    assert {"date", "versions", "hardware", "seconds"} <= set(entry["made"])
    assert {"processor", "device", "memory_bytes"} <= set(entry["made"]["hardware"])


def test_a_calibrated_text_is_refused_before_a_model_is_loaded(own_copy, tiny, text):
    path = own_copy("gemma4-moe", "hub", "affine4")
    record = json.loads((path / "convx.json").read_text())
    from convx.measure.data import read_text

    record["calibration"] = {"imatrix": "x.gguf", "sha256": "0", "data_sha256": [read_text(text).sha256]}
    (path / "convx.json").write_text(json.dumps(record))
    settings = Settings(text=text, windows=2, length=16, reference=str(tiny("gemma4-moe")))
    with pytest.raises(MeasureError, match="calibrated on this text"):
        measure(path, ["kl"], settings)
