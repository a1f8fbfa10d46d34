"""Tell a model's reasoning from its answer by the markers that chat models write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MARKERS = (
    ("<think>", "</think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|think:start|>", "<|think:end|>"),
)
"""Where reasoning begins and ends: Qwen and DeepSeek, Gemma 4, gpt-oss, LongCat, and mlx-lm's others."""

State = Literal["none", "closed", "open", "stray end"]


@dataclass(frozen=True)
class Parsed:
    """An output in two parts. `state` says whether the reasoning was absent, closed, cut off, or ended unopened."""

    reasoning: str
    answer: str
    state: State

    @property
    def parsed(self) -> bool:
        """Whether nothing of the reasoning is left in the answer."""
        return self.state in {"none", "closed"}


def parse(output: str, prompt: str = "") -> Parsed:
    """Split an output. A template may open the reasoning itself, at the end of the prompt."""
    for start, end in MARKERS:
        opened = prompt.rstrip().endswith(start)
        if opened or start in output:
            before, _, rest = ("", "", output) if opened else output.partition(start)
            inside, closed, after = rest.partition(end)
            return Parsed(inside.strip(), (before + after).strip(), "closed" if closed else "open")
        if end in output and start != "<|channel|>analysis<|message|>":
            inside, _, after = output.partition(end)
            return Parsed(inside.strip(), after.strip(), "stray end")
    return Parsed("", output.strip(), "none")
