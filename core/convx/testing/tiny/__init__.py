"""Tiny random checkpoints with the names, shapes and files of the real ones, for tests and for `convx demo`.

make_tiny(Path("gemma"), "gemma4-moe")                          as the Hub publishes it, about 3 MB
make_tiny(Path("qwen"), "qwen35-moe", "transformers5", seed=1)  as transformers 5 saves it
make_tiny(Path("big"), "gemma4-moe", experts=256, shards=4)     any size by keyword, see sizes.py
"""

from __future__ import annotations

from convx.testing.tiny.make import LAYOUTS, MODELS, make_tiny
from convx.testing.tiny.media import make_image, make_sound

__all__ = ["LAYOUTS", "MODELS", "make_image", "make_sound", "make_tiny"]
