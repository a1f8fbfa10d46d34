"""Divergence over the vocabulary of the real models stays in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import run_convert

MEASURE = """
import sys
import numpy as np
from convx.measure.data import Text, Windows
from convx.measure.kl import measure_kl
from convx.measure.model import load_text_model
from convx.measure.reference import LiveReference, reference_model
from convx.measure.speed import max_rss

tokens = np.random.default_rng(0).integers(0, 262144, (1, 512)).astype(np.int32)
windows = Windows(Text("random", "", "0" * 64), tokens, {"bos": True})
with reference_model(sys.argv[1]) as (model, name):
    found = measure_kl(load_text_model(sys.argv[2]), LiveReference(model, name), windows)
print(found["mean"], max_rss())
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gemma4-moe", "qwen35-moe"])
def test_262144_tokens_and_windows_of_512_take_less_than_2_5_gb(tiny, tmp_path, model):
    source = tiny(model, vocab=262_144)
    run_convert(source, tmp_path / "out", "nvfp4")
    command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    mean, rss = said.split()
    assert float(mean) > 0
    assert int(rss) < 2.5e9
