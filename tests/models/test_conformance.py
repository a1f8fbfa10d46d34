"""The built-in architectures pass the kit that third parties are given."""

from __future__ import annotations

from pathlib import Path

import convx_gemma4
import convx_generic
import convx_qwen35
from convx.options import Options
from convx.testing import ArchitectureSuite
from convx.testing.tiny import make_tiny


class TestGemma4MoE(ArchitectureSuite):
    plugin = convx_gemma4

    def make_source(self, folder: Path) -> Path:
        return make_tiny(folder, "gemma4-moe")


class TestGemma4Dense(ArchitectureSuite):
    plugin = convx_gemma4
    formats = ("mxfp4",)

    def make_source(self, folder: Path) -> Path:
        return make_tiny(folder, "gemma4-e4b", "transformers5")


class TestGemma4KeepingSharedKeysAndValues(ArchitectureSuite):
    plugin = convx_gemma4
    options = Options(shared_kv="keep")

    def make_source(self, folder: Path) -> Path:
        return make_tiny(folder, "gemma4-e4b")


class TestQwen35(ArchitectureSuite):
    plugin = convx_qwen35
    formats = ("nvfp4",)

    def make_source(self, folder: Path) -> Path:
        return make_tiny(folder, "qwen35-moe", "transformers5")


class TestQwen35WithDraftLayers(ArchitectureSuite):
    plugin = convx_qwen35
    options = Options(mtp="keep")

    def make_source(self, folder: Path) -> Path:
        return make_tiny(folder, "qwen35-moe", mtp=True)


class TestGeneric(ArchitectureSuite):
    """The generic plugin on a model that has a plugin of its own: through mlx-vlm's classes."""

    plugin = convx_generic

    def make_source(self, folder: Path) -> Path:
        return make_tiny(folder, "qwen35-moe")
