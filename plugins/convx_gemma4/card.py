"""What a card should warn of for Gemma 4."""

from __future__ import annotations

from convx import Facts, Section, hookimpl


@hookimpl
def convx_render_card(facts: Facts) -> list[Section]:
    return [Section("Known risks", "\n".join(f"- {risk}" for risk in _risks(facts)))] if _risks(facts) else []


def _risks(facts: Facts) -> list[str]:
    risks = []
    lowest = facts.lowest_bits("expert-gate", "expert-up", "expert-down")
    if lowest is not None and lowest < 3:
        risks.append("Experts below 3 bits turn to gibberish in models with few active parameters.")
    if "vision" in facts.roles:
        risks.append(
            "Vision is computed in bfloat16; casting the vision tower to float16 overflows, so do not load it as float16."
        )
    return risks
