"""The files beside the weights: which are carried byte for byte, which are derived, what is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from convx.options import Options
from convx.source import Config, Source

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True)
class Export:
    """`files`: name -> new content, or None to carry the source's bytes. `missing`: what is looked for in vain."""

    files: dict[str, bytes | None] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def with_file(self, name: str, content: bytes) -> Export:
        return replace(self, files={**self.files, name: content})


def carry_all(source: Source, options: Options) -> Export:
    """Every sidecar file as it is. A text conversion leaves the processors' files out."""
    names = [n for n in source.sidecars if options.modality == "all" or n not in PROCESSORS]
    out = Export(dict.fromkeys(names), tuple(missing_files(source)))
    return out if options.modality == "all" else _text_templates(source, out)


GUARD = (
    "{%- for _m in messages %}{% if _m['content'] is not string and _m['content'] is iterable %}"
    "{% for _c in _m['content'] %}{% if _c is mapping and _c['type'] in ['image', 'image_url', 'video', 'audio'] %}"
    "{{ raise_exception('this conversion is text only: it takes no ' ~ _c['type']) }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor -%}\n"
)
"""Stands before a chat template whose model has lost its towers, so that media are refused and not ignored."""


def _text_templates(source: Source, out: Export) -> Export:
    """Chat templates that refuse media, wherever the source keeps its own."""
    for name in source.sidecars:
        if name.endswith(".jinja"):
            out = out.with_file(name, GUARD.encode() + source.read(name))
    for name in ("tokenizer_config.json", "chat_template.json"):
        found = source.read_json(name) or {}
        if isinstance(found.get("chat_template"), str):
            out = out.with_file(name, to_json({**found, "chat_template": GUARD + found["chat_template"]}))
    return out


def missing_files(source: Source) -> list[str]:
    """Names of what every loader needs and the source lacks."""
    if source.bare:
        return []
    names = set(source.sidecars)
    missing = []
    if not names & set(TOKENIZERS):
        missing.append("tokenizer.json")
    if "tokenizer_config.json" not in names:
        missing.append("tokenizer_config.json")
    if "generation_config.json" not in names:
        missing.append("generation_config.json")
    if not names & {"chat_template.jinja", "chat_template.json"} and not _template_inside(source):
        missing.append("chat_template.jinja")
    return missing


def _template_inside(source: Source) -> bool:
    return "chat_template" in (source.read_json("tokenizer_config.json") or {})


def to_json(value: Config | dict[str, Any]) -> bytes:
    """JSON as checkpoints have it: two spaces, keys in their order, a final newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
