"""What a conversion changes in `config.json`: the quantization entries, the dtype, the end-of-sequence ids."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from convx.decide import TensorInfo
from convx.dtypes import BF16, SPEC_NAMES, DType
from convx.export import Export, to_json
from convx.formats import Format
from convx.roles import TOWERS
from convx.source import Config, Source
from convx.specs import Decision, Spec

QUANTIZATION_KEYS = ("quantization", "quantization_config")
_GLOBAL_KEYS = {"group_size", "bits", "mode"}


def unquantized(config: Config) -> Config:
    """The config without any word on quantization, at the top level or in the text part."""
    out = {k: v for k, v in config.items() if k not in QUANTIZATION_KEYS}
    text = out.get("text_config")
    if isinstance(text, dict) and any(key in text for key in QUANTIZATION_KEYS):
        out["text_config"] = {k: v for k, v in text.items() if k not in QUANTIZATION_KEYS}
    return out


def config_dtype(config: Config) -> DType:
    """The type that a config names for its weights; bfloat16 where it names none."""
    for part in (config, config.get("text_config") or {}):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) in SPEC_NAMES:
                return SPEC_NAMES[part[key]]
    return BF16


def quantization_entries(config: Config) -> dict[str, Any]:
    """The per-module entries of a config's `quantization`."""
    return {k: v for k, v in (config.get("quantization") or {}).items() if k not in _GLOBAL_KEYS}


def with_quantization(config: Config, base: Spec, decided: Iterable[tuple[TensorInfo, Decision]]) -> Config:
    """The config with `quantization` and its copy `quantization_config`, written from the decisions themselves.

    A module is listed when the top level does not describe it. `mode` is in every entry, since loaders take
    its absence for affine; mlx-vlm's default skips weights whose size is no multiple of 64, so those are
    listed too. Modules left whole that a loader could hold quantized are `false`, towers excepted.
    """
    decided = list(decided)
    top = _top_level(base, [d.spec for _, d in decided if isinstance(d.spec, Format)])
    if top is None:
        return config
    entries: dict[str, Any] = dict(top)
    for info, decision in sorted(decided, key=lambda item: item[0].name):
        spec = decision.spec
        if isinstance(spec, Format):
            if spec.config_entry() != top or math.prod(info.shape) % 64:
                entries[info.module] = spec.config_entry()
        elif info.quantizable and info.role not in TOWERS:
            entries[info.module] = False
    return {**config, **{key: json.loads(json.dumps(entries)) for key in QUANTIZATION_KEYS}}


def _top_level(base: Spec, used: list[Format]) -> dict[str, Any] | None:
    if not used:
        return None
    if isinstance(base, Format):
        return base.config_entry()
    return Counter(used).most_common(1)[0][0].config_entry()


def with_dtype(config: Config, dtype: DType | None) -> Config:
    """The config with its dtype keys naming `dtype`, where it has any; None changes nothing."""
    if dtype is None:
        return config
    out = {}
    for key, value in config.items():
        if key in {"dtype", "torch_dtype"} and isinstance(value, str):
            value = dtype.name
        elif isinstance(value, dict) and key.endswith("_config"):
            value = with_dtype(value, dtype)
        out[key] = value
    return out


def with_eos(config: Config, export: Export, source: Source) -> tuple[Config, Export]:
    """Config and generation config with the union of their end-of-sequence ids, where one lacks some.

    Loaders let `generation_config.json` replace the config's ids, so an id that only the config has is lost.
    """
    generation = source.read_json("generation_config.json")
    if generation is None or "generation_config.json" not in export.files:
        return config, export
    text = config.get("text_config") or {}
    own = _ids(config.get("eos_token_id")) or _ids(text.get("eos_token_id"))
    said = _ids(generation.get("eos_token_id"))
    union = [*said, *(i for i in own if i not in said)]
    if said and len(union) > len(said):
        export = export.with_file("generation_config.json", to_json({**generation, "eos_token_id": union}))
    if config.get("eos_token_id") is not None and set(union) - set(own):
        config = {**config, "eos_token_id": [*own, *(i for i in union if i not in own)]}
    return config, export


def _ids(value: Any) -> list[int]:  # noqa: ANN401
    if isinstance(value, int):
        return [value]
    return [i for i in value if isinstance(i, int)] if isinstance(value, list) else []
