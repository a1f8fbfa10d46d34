"""Every hook of convx, by phase. Plugins implement them under the same name, marked with `convx.hookimpl`.

An implementation may take any subset of the arguments, by name, without defaults. Hooks marked *first*
stop at the first result that is not None, asking the last registered plugin first (extensions, then the
architecture, the recipe, the formats, the defaults); the others gather every result.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

    from convx.card import Facts, Section
    from convx.checkpoint import Checkpoint, Patch
    from convx.export import Export
    from convx.fold import FoldGroup
    from convx.formats import Format
    from convx.options import Options
    from convx.plan import TensorInfo
    from convx.report import Report
    from convx.roles import Placement
    from convx.source import Config, Source
    from convx.specs import Decision, Floor
    from convx.tensors import Tensor

hookspec = pluggy.HookspecMarker("convx")

# ----------------------------------------------------------------------------------------------- offer


@hookspec(firstresult=True)
def convx_format() -> Format | None:
    """Give the number format that this plugin adds (first).

    Asked once of each format plugin when a run is set up.
    """


@hookspec(firstresult=True)
def convx_recipe() -> Traversable | None:
    """Give the TOML file of the recipe that this plugin adds (first).

    Asked once of the recipe plugin that `--recipe` names. The file may be a package resource.
    """


# ------------------------------------------------------------------------------------------------ open


@hookspec
def convx_detect(config: Config) -> float | None:
    """Say how surely a `config.json` is of this architecture: 0 to 1, or None for not at all (all).

    Asked of every architecture plugin when there is no `--arch`; exactly one must win. Asked of the chosen
    one when there is, to refuse a config that it does not know.
    """


@hookspec(firstresult=True)
def convx_sanitize_config(config: Config, options: Options) -> Config | None:
    """Give the config that MLX loaders need, from the source's, which must not be changed in place (first).

    Called before anything else looks at the config. Change only what a loader cannot read as it is.
    None leaves the config as it is.
    """


@hookspec(firstresult=True)
def convx_declare_weights(
    shapes: Mapping[str, tuple[int, ...]], config: Config, options: Options
) -> dict[str, tuple[int, ...]] | None:
    """Give name and shape of every weight of a bare `config.json` that has no weights beside it (first).

    `shapes` are the parameters of the stock loader's own model, which is the default answer. Names are those
    that `convx_sanitize_weights` would give.
    """


# -------------------------------------------------------------------------------------------- sanitize


@hookspec(firstresult=True)
def convx_sanitize_weights(weights: dict[str, Tensor], config: Config, options: Options) -> dict[str, Tensor] | None:
    """Rename, split, stack and correct the source's tensors into those of the MLX loader's model (first).

    The tensors are lazy; nothing is read. The result must be the same when it is sanitized again. None
    leaves the names as they are.
    """


@hookspec(firstresult=True)
def convx_explain_tensor(name: str, config: Config, options: Options) -> str | None:
    """Explain a tensor that has no counterpart, in one clause (first).

    Asked of each source tensor that no output uses (why it may be dropped), and of each output tensor that
    the loader's model does not have (why it may be written). None means unknown, which is an error.
    """


@hookspec(firstresult=True)
def convx_tensor_role(name: str, config: Config) -> Placement | None:
    """Say what an output tensor is for and in which layer it stands (first). None means the role `other`."""


# ---------------------------------------------------------------------------------------------- decide


@hookspec(firstresult=True)
def convx_tensor_predicate(tensor: TensorInfo, config: Config) -> Decision | None:
    """Decide how a quantizable tensor is stored (first).

    Asked for each weight that the loader can hold quantized, unless the user's `--tensor` names it. None
    leaves the decision to the next plugin, at last to `--format`.
    """


@hookspec
def convx_tensor_floor(tensor: TensorInfo, config: Config) -> Floor | None:
    """Name the least precision that a tensor may have (all; the highest holds). None means any."""


@hookspec
def convx_fold_groups(weights: dict[str, Tensor], config: Config) -> list[FoldGroup] | None:
    """List the groups of linears whose input channels can be scaled against a preceding tensor (all).

    Called when an importance matrix is given. Scaling a group must leave the model's function unchanged.
    """


# ----------------------------------------------------------------------------------------------- write


@hookspec(firstresult=True)
def convx_export_processor(source: Source, config: Config, options: Options) -> Export | None:
    """Say which files beside the weights go out: carried byte for byte, or derived (first).

    The default carries every sidecar file. Name in `missing` what loaders look for and the source lacks.
    """


# ----------------------------------------------------------------------------------------------- after


@hookspec
def convx_post_save_patch(checkpoint: Checkpoint, config: Config, target: str | None) -> list[Patch] | None:
    """Give changes to a written checkpoint, as data (all; two that touch one thing are an error).

    Called after a conversion (`checkpoint.fresh`; tensors are then the plan's and cannot be patched), and by
    `convx patch` for a checkpoint that exists. `target` names the loader to be pleased, or is None.
    """


# ------------------------------------------------------------------------------------------------ card


@hookspec
def convx_render_card(facts: Facts) -> list[Section] | None:
    """Give sections of the model card: known risks, notes on a format, usage (all, merged by title)."""


@hookspec
def convx_jinja_environment(env: SandboxedEnvironment) -> None:
    """Add filters, globals or template folders to the card's sandboxed environment (all)."""


# ------------------------------------------------------------------------------------------------- end


@hookspec
def convx_finished(report: Report) -> None:
    """Take note of a finished conversion (all; observers)."""


HOOKS: dict[str, Any] = {name: value for name, value in globals().items() if name.startswith("convx_")}
