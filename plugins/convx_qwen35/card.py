"""What a card should warn of for Qwen3.5."""

from __future__ import annotations

from convx import Facts, Section, hookimpl


@hookimpl
def convx_render_card(facts: Facts) -> list[Section]:
    risks = ["The recurrent state is kept in its own type; tools that cast the checkpoint to float16 damage it."]
    lowest = facts.lowest_bits("expert-gate", "expert-up", "expert-down")
    if lowest is not None and lowest < 3:
        risks.append("Experts below 3 bits turn to gibberish in models with few active parameters.")
    if facts.dropped_because("multi-token prediction"):
        risks.append("Multi-token-prediction layers are left out, so speculative decoding with them is not possible.")
    return [Section("Known risks", "\n".join(f"- {risk}" for risk in risks))]
