"""Reasoning is told from the answer by its markers."""

from __future__ import annotations

import pytest

from convx.measure.reasoning import parse


@pytest.mark.parametrize(
    ("output", "prompt", "reasoning", "answer", "state"),
    [
        ("Red.", "", "", "Red.", "none"),
        ("<think>hm</think>Red.", "", "hm", "Red.", "closed"),
        ("<think>hm", "", "hm", "", "open"),
        ("hm</think>\n\nRed.", "Say.<think>\n", "hm", "Red.", "closed"),
        ("hm", "Say.<think>\n", "hm", "", "open"),
        ("hm</think>Red.", "Say.", "hm", "Red.", "stray end"),
        ("<|channel>thought\nhm<channel|>Red.", "", "hm", "Red.", "closed"),
        ("<|channel|>analysis<|message|>hm<|end|>Red.", "", "hm", "Red.", "closed"),
    ],
)
def test_markers_of_chat_models(output, prompt, reasoning, answer, state):
    found = parse(output, prompt)
    assert (found.reasoning, found.answer, found.state) == (reasoning, answer, state)
    assert found.parsed == (state in {"none", "closed"})
