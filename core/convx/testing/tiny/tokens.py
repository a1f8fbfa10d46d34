"""Byte-level tokenizers with the special tokens of the real models, and exactly `vocab` entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from convx.testing.tiny.store import write_json

_LINES = [
    "the quick brown fox jumps over the lazy dog and the other animals of the forest",
    "hello world, this is a small model that answers with words it does not understand",
    "def f(x): return x + 1  # a comment in the code",
    "un deux trois quatre; the answer is 42.",
]


def write_tokenizer(out: Path, specials: list[str], vocab: int, config: dict[str, Any]) -> dict[str, int]:
    """Write tokenizer.json and tokenizer_config.json. Returns the id of each special token.

    Raises ValueError when `vocab` has no room for every byte and special token.
    """
    least = 256 + len(specials)
    if vocab < least:
        raise ValueError(f"vocab must be at least {least}, not {vocab}")
    tokenizer = _train(specials, vocab)
    tokenizer.save(str(out / "tokenizer.json"))
    common = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096}
    write_json(out / "tokenizer_config.json", {**common, "clean_up_tokenization_spaces": False, **config})
    return {token: number for token, number in tokenizer.get_vocab().items() if token in specials}


def _train(specials: list[str], vocab: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    missing = vocab - tokenizer.get_vocab_size()
    tokenizer.add_tokens([AddedToken(f"<unused{i}>", normalized=False) for i in range(missing)])
    return tokenizer
