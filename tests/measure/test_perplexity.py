"""Perplexity is that of mlx_lm.perplexity, whole or in chunks."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support import MODELS

from convx.errors import MeasureError
from convx.measure import data as data_module
from convx.measure.data import cut, load_data_set, read_text
from convx.measure.model import LanguagePart, load_text_model, load_vlm_lazily, prepare_for_device
from convx.measure.perplexity import measure_perplexity, summary


@pytest.mark.parametrize("model", ["gemma4-moe", "qwen35-moe"])
def test_it_is_what_mlx_lm_measures(converted, windows, model):
    import mlx.core as mx
    from mlx_lm.perplexity import eval_ppl

    path = converted(model, "hub", "nvfp4")
    cut_text, loaded = windows(path), load_text_model(path)
    found = measure_perplexity(loaded, cut_text, batch=2)
    with contextlib.redirect_stdout(io.StringIO()):
        perplexity, error = eval_ppl(loaded.module, mx.array(cut_text.tokens), batch_size=3)
    assert found["perplexity"] == pytest.approx(perplexity, rel=1e-4)
    assert found["standard_error"] == pytest.approx(error, rel=1e-3)
    assert found["tokens"] == 3 * 23


@pytest.mark.parametrize("model", MODELS)
def test_chunks_give_the_logits_of_the_whole(converted, windows, model):
    import mlx.core as mx

    path = converted(model, "hub", "mxfp8" if model == "gemma4-e4b" else "nvfp4")
    loaded, tokens = load_text_model(path), mx.array(windows(path, 2, 24).tokens)
    ((_, whole),) = loaded.chunks(tokens, 24)
    starts, pieces = zip(*loaded.chunks(tokens, 7), strict=True)
    assert starts == (0, 7, 14, 21)
    assert mx.abs(mx.concatenate(list(pieces), axis=1) - whole).max().item() < 1e-4


@pytest.mark.parametrize("model", MODELS)
def test_mlx_vlm_gives_the_logits_of_mlx_lm(converted, windows, model):
    """For a model that only mlx-vlm knows, its language part stands in."""
    import mlx.core as mx

    path = converted(model, "hub", "mxfp8" if model == "gemma4-e4b" else "nvfp4")
    loaded, tokens = load_text_model(path), mx.array(windows(path, 2, 24).tokens)
    module = load_vlm_lazily(path)
    prepare_for_device(module, "all")
    other = replace(loaded, loader="mlx-vlm", module=LanguagePart(module))
    pieces = [logits for _, logits in other.chunks(tokens, 7)]
    assert mx.abs(mx.concatenate(pieces, axis=1) - loaded.module(tokens)).max().item() < 1e-3
    assert other.vocabulary == loaded.vocabulary


def test_a_chunk_holds_no_more_than_its_budget(converted):
    loaded = load_text_model(converted("gemma4-moe", "hub", "nvfp4"))
    assert loaded.vocabulary == 320
    assert loaded.step(batch=2, length=512, budget=2 * 4 * 320 * 100) == 100
    assert loaded.step(batch=1, length=64) == 64


def test_spread_over_windows():
    losses = np.log(np.array([[2.0, 2.0], [8.0, 8.0], [4.0, 4.0]]))
    found = summary(losses)
    assert found["perplexity"] == pytest.approx(4)
    assert found["mean_over_windows"] == pytest.approx(14 / 3)
    assert found["median_over_windows"] == pytest.approx(4)
    assert found["window_nll"] == pytest.approx(np.log([2, 8, 4]), abs=1e-6)


def test_windows_follow_each_other_without_overlap(tiny, text):
    from tokenizers import Tokenizer

    folder = tiny("gemma4-moe")
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text.read_text()).ids
    found = cut(read_text(text), folder, windows=4, length=10)
    assert found.tokens.reshape(-1).tolist() == ids[:40]
    assert found.positions == 9
    many = cut(read_text(text), folder, windows=10**6, length=10)
    assert many.count == len(ids) // 10 == many.settings["windows"]


def test_the_tokenizer_is_the_stored_one_or_the_loaders(tiny, text):
    """transformers 5 splits words its own way for some models, whatever the file says; here the two agree."""
    folder = tiny("gemma4-moe")
    stored, rebuilt = (cut(read_text(text), folder, windows=2, length=10, tokenizer=k) for k in ("file", "loader"))
    assert stored.tokens.tolist() == rebuilt.tokens.tolist()
    assert (stored.settings["tokenizer"], rebuilt.settings["tokenizer"]) == ("file", "loader")


def test_each_window_can_begin_with_bos(tiny, text):
    found = cut(read_text(text), tiny("gemma4-moe"), windows=2, length=5, bos=True)
    assert found.tokens[:, 0].tolist() == [2, 2]
    with pytest.raises(MeasureError, match="no beginning-of-sequence token"):
        cut(read_text(text), tiny("qwen35-moe"), windows=2, length=5, bos=True)


def test_a_text_that_is_too_short_or_none(tiny, text, tmp_path):
    with pytest.raises(MeasureError, match="no window of 100000"):
        cut(read_text(text), tiny("gemma4-moe"), windows=1, length=100_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MeasureError, match="UTF-8"):
        read_text(tmp_path / "binary")


def test_a_data_set_of_the_hub(monkeypatch):
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return {"text": ["one", "", "two"]}

    monkeypatch.setitem(__import__("sys").modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    found = load_data_set("Salesforce/wikitext:wikitext-2-raw-v1")
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1", "test")]
    assert found.text == "one\n\n\n\ntwo"
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MeasureError, match="need the package datasets"):
        load_data_set("any")


def test_text_calibrated_on_is_refused(text):
    held = read_text(text)
    data_module.refuse_calibration(held, {"calibration": {"data_sha256": ["0" * 64]}}, "model")
    data_module.refuse_calibration(held, {"calibration": None}, "model")
    with pytest.raises(MeasureError, match="calibrated on this text"):
        data_module.refuse_calibration(held, {"calibration": {"data_sha256": ["0" * 64, held.sha256]}}, "model")
