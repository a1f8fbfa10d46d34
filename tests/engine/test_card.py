"""The card: true to the record, valid front matter, and safe whatever a config says."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import yaml
from support import run_convert

from convx.card import Facts, escape_markdown, render
from convx.checkpoint import read_record
from convx.cli import run
from convx.errors import ConvxError
from convx.options import Options
from convx.session import make_hooks

MEASURED = {
    "perplexity": [{
        "settings": {"data": "held-out.txt", "windows": 24, "length": 256},
        "values": {"perplexity": 65.7612, "standard_error": 1.234, "mean_over_windows": 66.1, "median_over_windows": 64.25,
                   "trimmed_mean_over_windows": 65.9},
    }],
    "kl": [{
        "settings": {"data": "held-out.txt", "windows": 24, "length": 256, "reference": "source"},
        "values": {"mean": 0.0146, "standard_error": 0.0003, "p95": 0.0448, "p99": 0.1077, "max": 0.185,
                   "top1_agreement": 0.8912},
    }],
    "speed": [{
        "settings": {},
        "values": {"trials": 5, "contexts": [{"context": 1024, "prefill_tokens_per_second": 812.4,
                                              "generation_tokens_per_second": 41.27, "peak_memory_bytes": 1234567890}]},
        "made": {"hardware": {"processor": "Some Processor", "device": "gpu"}, "versions": {"mlx": "0.32.4"}},
    }],
    "validate": [{
        "settings": {},
        "values": {"via": "mlx-vlm", "ok": True, "probes": [
            {"name": "load", "ok": True, "seconds": 0.2},
            {"name": "image", "ok": True, "first_token_seconds": 0.57, "characters": 193, "stop_reason": "length", "reasoning": "none"},
        ]},
    }],
    "tensors": [{"settings": {}, "values": {"roles": {"expert-up": {"relative_error": 0.0965, "snr_db": 20.31}}}}],
    "tasks": [{"settings": {}, "values": {"tasks": {"gsm8k": {"metric": "exact_match", "value": 0.512, "standard_error": 0.014,
                                                               "samples": 250}}, "capability": 0.512, "capability_error": 0.014}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("card") / "model-nvfp4"
    run_convert(tiny("gemma4-moe"), out, "nvfp4", base_model="owner/model", license="apache-2.0", language=("en",))
    return out


def card_of(record: dict, template: Path | None = None) -> str:
    hooks = make_hooks(record["architecture"], [record["format"]], None, Options())
    return render(Facts(record), hooks, template)


def numbers_of(value, found: set[float]) -> set[float]:
    if isinstance(value, bool) or value is None:
        return found
    if isinstance(value, int | float):
        found.add(float(value))
    elif isinstance(value, str):
        found |= {float(n) for n in re.findall(r"\d+(?:\.\d+)?", value)}
    else:
        for item in value.values() if isinstance(value, dict) else value:
            numbers_of(item, found)
    return found


def test_every_figure_is_in_the_record_or_follows_from_it_by_arithmetic(made):
    record = {**read_record(made), "measurements": MEASURED}
    facts = Facts(record)
    known = numbers_of(record, set())
    for row in (*facts.by_role, *facts.by_spec):
        known |= {row.tensors, row.parameters, row.share, row.bytes, row.bits_per_weight}
    known.add(len(record["dropped"]))
    body = card_of(record).partition("\n## Use")[0] + card_of(record).partition("## How it was made")[2]
    body = body.replace(",", "")
    scaled = [k * factor for k in known for factor in (1, 100, 1e-6, 1e-9)]
    for text in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w])", body):
        digits = len(text.partition(".")[2])
        assert any(math.isclose(float(text), round(k, digits), abs_tol=1e-9) for k in scaled), f"{text} is in no record"


def test_measurements_show_and_missing_ones_are_left_out(made):
    record = read_record(made)
    plain = card_of(record)
    assert "## Quality" not in plain and "## Speed" not in plain and "## Validation" not in plain
    full = card_of({**record, "measurements": MEASURED})
    for words in ("65.761 ± 1.234", "0.01460 ± 0.00030", "89.12 %", "| 1024 | 812 | 41.3 | 1.23 GB |", "Some Processor",
                  "| image | yes | 0.57 s | 193 | length | none |", "| gsm8k | exact\\_match | 51.20 ± 1.40 | 250 |"):  # fmt: skip
        assert words in full, words


def test_front_matter_is_what_the_hub_reads(made):
    from huggingface_hub import ModelCard

    text = (made / "README.md").read_text()
    data = yaml.safe_load(text.split("---\n")[1])
    assert data["library_name"] == "mlx" and data["pipeline_tag"] == "image-text-to-text"
    assert data["base_model"] == "owner/model" and data["base_model_relation"] == "quantized"
    assert data["license"] == "apache-2.0" and data["language"] == ["en"]
    assert {"mlx", "nvfp4"} <= set(data["tags"])
    assert ModelCard(text).data.base_model == "owner/model"


HOSTILE = "a|b *bold* <script>alert(1)</script> {{ 7 * 7 }} [x](javascript:1) `code`\n# title"


def test_hostile_values_come_out_escaped(made):
    record = json.loads(json.dumps(read_record(made)))
    for key in ("name", "model_type", "architecture_note", "base_model"):
        record[key] = HOSTILE
    record["source"]["name"] = HOSTILE
    record["warnings"] = [HOSTILE]
    record["tensors"][0]["reason"] = HOSTILE
    record["command"] = "convx ```\n# injected"
    body = card_of(record).split("---\n", 2)[2]
    outside = re.sub(r"```.*?```", "", body, flags=re.S)
    assert "<script" not in outside
    assert "*bold*" not in re.sub(r"\\\*", "", outside)
    assert "\n# title" not in outside and "\n# injected" not in outside
    assert "](javascript" not in re.sub(r"\\\]", "", outside)
    assert "49" not in outside.partition("7 \\* 7")[0][-20:]
    fences = [line for line in body.splitlines() if line.startswith("```")]
    assert len(fences) % 2 == 0


def test_escaping_keeps_the_words():
    assert escape_markdown("plain words 1.5") == "plain words 1.5"
    assert escape_markdown("a\n b") == "a b"


def test_a_template_of_ones_own_may_override_a_block(made, tmp_path):
    template = tmp_path / "mine.md.j2"
    template.write_text('{% extends "card.md.j2" %}{% block title %}# Mine: {{ record.name }}{% endblock %}')
    card = card_of(read_record(made), template)
    assert "# Mine: model-nvfp4" in card and "## Bits by role" in card


def test_a_card_toml_adds_and_replaces_sections(made, tmp_path):
    path = tmp_path / "card.toml"
    path.write_text('[sections]\n"Known risks" = "None that we met."\n"Thanks" = "To all."\n')
    card = card_of(read_record(made), path)
    assert "## Thanks\n\nTo all." in card and "None that we met." in card and "float16 overflows" not in card
    path.write_text("[sections")
    with pytest.raises(ConvxError, match="not readable as TOML"):
        card_of(read_record(made), path)


@pytest.mark.parametrize("text", ["{{ record.nothing_like_it }}", "{% for %}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_that_is_not_sound_is_an_error(made, tmp_path, text):
    (tmp_path / "bad.md.j2").write_text(text)
    with pytest.raises(ConvxError, match="the card's template"):
        card_of(read_record(made), tmp_path / "bad.md.j2")


def test_a_family_lists_its_siblings(tiny, tmp_path):
    reports = run_convert(tiny("gemma4-moe"), tmp_path / "g", "mxfp4,mxfp8,nvfp4,bf16")
    for report in reports:
        card = (report.path / "README.md").read_text()
        for other in reports:
            assert other.path.name in card


def test_the_source_card_gives_the_licence(tiny, tmp_path):
    source = Path(shutil.copytree(tiny("gemma4-moe"), tmp_path / "source"))
    (source / "README.md").write_text(
        "---\nlicense: gemma\nlicense_link: https://example.com\nlanguage: [en, fr]\n---\n# x\n"
    )
    out = run_convert(source, tmp_path / "out", "nvfp4")[0].path
    data = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    assert data["license"] == "gemma" and data["language"] == ["en", "fr"]


def test_command_line_template(made, tmp_path, capsys):
    (tmp_path / "card.toml").write_text('[sections]\nThanks = "To all."\n')
    assert run(["card", str(made), "--template", str(tmp_path / "card.toml"), "--stdout"]) == 0
    assert "To all." in capsys.readouterr().out
