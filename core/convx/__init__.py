"""convx converts Hugging Face checkpoints to MLX: planned first, streamed, and checked against the plan.

The names below are the public interface; plugins import nothing else. They are loaded on first use, so
that `import convx` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from convx.card import Facts, Section
    from convx.checkpoint import Checkpoint, FilePatch, JsonPatch, Patch, TensorPatch
    from convx.errors import ConvxError, PlanError, PluginError, RecipeError, SourceError, TensorError
    from convx.export import Export, carry_all, to_json
    from convx.fold import FoldGroup, layer_groups
    from convx.formats import Format, Part
    from convx.options import Options
    from convx.plan import Plan, TensorInfo
    from convx.roles import GROUPS, Placement, Role
    from convx.shaping import map_rows
    from convx.source import Config, Source
    from convx.specs import Decision, Floor
    from convx.tensors import Tensor, concatenate, split, stack

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("convx")
"""Marks a function of a plugin as an implementation of the hook of that name."""

_HOMES = {
    "convx.card": ("Facts", "Section"),
    "convx.checkpoint": ("Checkpoint", "FilePatch", "JsonPatch", "Patch", "TensorPatch"),
    "convx.errors": ("ConvxError", "PlanError", "PluginError", "RecipeError", "SourceError", "TensorError"),
    "convx.export": ("Export", "carry_all", "to_json"),
    "convx.fold": ("FoldGroup", "layer_groups"),
    "convx.formats": ("Format", "Part"),
    "convx.shaping": ("map_rows",),
    "convx.options": ("Options",),
    "convx.plan": ("Plan", "TensorInfo"),
    "convx.roles": ("GROUPS", "Placement", "Role"),
    "convx.source": ("Config", "Source"),
    "convx.specs": ("Decision", "Floor"),
    "convx.tensors": ("Tensor", "concatenate", "split", "stack"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "GROUPS", "Checkpoint", "Config", "ConvxError", "Decision", "Export", "Facts", "FilePatch", "Floor",
    "FoldGroup", "Format", "JsonPatch", "Options", "Part", "Patch", "Placement", "Plan", "PlanError",
    "PluginError", "RecipeError", "Role", "Section", "Source", "SourceError", "Tensor", "TensorError",
    "TensorInfo", "TensorPatch", "__version__", "carry_all", "concatenate", "hookimpl", "layer_groups", "map_rows", "split",
    "stack", "to_json",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOME_OF:
        raise AttributeError(f"module 'convx' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
