"""Speed and validation probes, in the stock loaders and through the server."""

from __future__ import annotations

import sys

import pytest
from support import MODELS

from convx.errors import MeasureError
from convx.measure import server
from convx.measure.model import load_text_model
from convx.measure.probes import Ask, Piece, long_text, watch
from convx.measure.speed import Trial, load_cold, measure_speed, summary
from convx.measure.validate import measure_validation
from convx.testing.tiny import make_image, make_sound


def test_speed_at_two_contexts(converted):
    model, loading = load_cold(converted("gemma4-moe", "hub", "nvfp4"))
    assert loading["load_seconds"] > 0 and loading["load_from"] in {"disk", "page cache"}
    found = measure_speed(model, contexts=(8, 16), trials=2, generate=4)
    assert [row["context"] for row in found["contexts"]] == [8, 16]
    for row in found["contexts"]:
        assert row["prefill_tokens_per_second"] > 0 and row["generation_tokens_per_second"] > 0
        assert row["first_token_seconds"] > 0 and row["peak_memory_bytes"] > 0


def test_speed_is_a_mean_over_trials():
    trials = [Trial(100, 2.0, 10, 5.0, 7), Trial(100, 1.0, 10, 2.5, 9)]
    found = summary(trials)
    assert found["prefill_tokens_per_second"] == 75
    assert found["prefill_tokens_per_second_std"] == pytest.approx(25 * 2**0.5)
    assert found["generation_tokens_per_second"] == 3
    assert found["peak_memory_bytes"] == 9


def test_unquantized_experts_compute_on_a_cpu(tiny):
    """MLX gathers experts in float32 only there; everything else keeps the type that is served."""
    model = load_text_model(tiny("gemma4-moe"), upcast="needed")
    assert model.compute == "bfloat16"
    assert measure_speed(model, contexts=(4,), trials=1, generate=2)["contexts"]


@pytest.mark.parametrize(
    "model", [pytest.param(m, marks=() if m == "qwen35-moe" else pytest.mark.slow) for m in MODELS]
)
def test_probes_of_a_multimodal_model(converted, tmp_path, model):
    path = converted(model, "hub", "mxfp8" if model == "gemma4-e4b" else "nvfp4")
    image, sound = make_image(tmp_path / "a.png", (96, 96)), make_sound(tmp_path / "a.wav", 0.3)
    found = measure_validation(path, image=image, audio=sound, max_tokens=4, long_characters=200)
    audio = ["audio"] if model == "gemma4-e4b" else []
    assert [p["name"] for p in found["probes"]] == ["load", "short text", "long text", "image", *audio, "unload"]
    assert found["ok"] and found["via"] == "mlx-vlm"
    asked = [p for p in found["probes"] if "stop_reason" in p]
    assert all(p["tokens"] <= 4 and p["first_token_seconds"] > 0 for p in asked)


def test_a_failure_of_the_loader_is_a_failed_probe():
    def answer(ask):
        yield Piece("Re")
        raise ValueError("no kernel")

    found = watch(Ask("short text", "?"), answer, lambda ask: "")
    assert (found.ok, found.error) == (False, "ValueError: no kernel")


def test_what_is_kept_of_an_answer():
    pieces = [Piece("<think>hm", tokens=1), Piece("</think>Red.", tokens=2), Piece("", stop_reason="stop", tokens=3)]
    found = watch(Ask("short text", "?"), lambda ask: pieces, lambda ask: "")
    assert (found.ok, found.characters, found.reasoning, found.reasoning_characters) == (True, 4, "closed", 2)
    assert (found.stop_reason, found.tokens) == ("stop", 3)


def test_the_long_text_is_long_and_the_same_every_time():
    assert long_text(3000) == long_text(3000)
    assert 3000 <= len(long_text(3000)) < 3300


def test_events_of_the_server():
    events = [
        {"type": "response.created"},
        {"type": "response.reasoning_text.delta", "delta": "hm"},
        {"type": "response.output_text.delta", "delta": "Red"},
        {
            "type": "response.incomplete",
            "response": {"incomplete_details": {"reason": "max_output_tokens"}, "usage": {"output_tokens": 2}},
        },
    ]
    pieces = [piece for event in events for piece in server._pieces(event)]
    found = watch(Ask("short text", "?"), lambda ask: pieces, lambda ask: "")
    assert (found.characters, found.reasoning_characters, found.reasoning) == (3, 2, "closed")
    assert (found.stop_reason, found.tokens, found.ok) == ("max_output_tokens", 2, True)


def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MeasureError, match="ended with code 1"), server.serving(tmp_path):
        raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gemma4-moe", "qwen35-moe"])
def test_probes_through_the_server(converted, tmp_path, model):
    image = make_image(tmp_path / "a.png", (96, 96))
    path = converted(model, "hub", "nvfp4")
    found = measure_validation(path, image=image, max_tokens=4, long_characters=200, server=True)
    assert found["ok"], found
    assert [p["name"] for p in found["probes"]] == ["load", "short text", "long text", "image", "unload"]
