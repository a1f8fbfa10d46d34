"""Find plugins, check them, and call their hooks through one typed front.

A fresh manager is made for each run and holds only what that run chose, so no implementation ever has to
ask which architecture or format it is serving.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, distributions
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pluggy

from convx import hookspecs
from convx.errors import ConvxError, PluginError
from convx.formats import Format

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

    from convx.card import Facts, Section
    from convx.checkpoint import Checkpoint, Patch
    from convx.export import Export
    from convx.fold import FoldGroup
    from convx.options import Options
    from convx.plan import TensorInfo
    from convx.report import Report
    from convx.roles import Placement
    from convx.source import Config, Source
    from convx.specs import Decision, Floor
    from convx.tensors import Tensor

ARCHITECTURES: Final = "convx.architectures"
FORMATS: Final = "convx.formats"
RECIPES: Final = "convx.recipes"
EXTENSIONS: Final = "convx.extensions"
GROUPS: Final = (ARCHITECTURES, FORMATS, RECIPES, EXTENSIONS)

OWN_DISTRIBUTION: Final = "convx"


@dataclass(frozen=True)
class Offer:
    """A plugin that some installed distribution offers; importing it is left until it is used."""

    group: str
    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    def load(self) -> object:
        try:
            return self.entry_point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {self.name!r} of {self.distribution} {self.version} cannot be imported: "
                f"{type(error).__name__}: {error}",
                hint=f"update or uninstall {self.distribution}, or set CONVX_PLUGINS=off",
            ) from error


@cache
def _offers(builtin_only: bool) -> dict[str, dict[str, Offer]]:
    found: dict[str, dict[str, Offer]] = {group: {} for group in GROUPS}
    seen: set[tuple[str, str]] = set()
    for distribution in distributions():
        name = distribution.metadata["Name"] or "?"
        if builtin_only and name != OWN_DISTRIBUTION:
            continue
        for entry in distribution.entry_points:
            if entry.group not in found or (name, f"{entry.group}:{entry.name}") in seen:
                continue
            seen.add((name, f"{entry.group}:{entry.name}"))
            offer = Offer(entry.group, entry.name, name, distribution.version, entry)
            other = found[entry.group].setdefault(entry.name, offer)
            if other is not offer:
                raise PluginError(
                    f"{other.distribution} and {name} both offer {entry.name!r} in {entry.group}",
                    hint="uninstall one of them, or set CONVX_PLUGINS=off",
                )
    return found


def offers(group: str) -> dict[str, Offer]:
    """What installed distributions offer in an entry-point group, by name; imports no plugin.

    With CONVX_PLUGINS=off only convx's own. Raises PluginError when two offer one name.
    """
    return _offers(os.environ.get("CONVX_PLUGINS", "").lower() in {"off", "0", "no"})[group]


def find(group: str, name: str) -> Offer:
    known = offers(group)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        kind = group.rpartition(".")[2].removesuffix("s")
        said = f"did you mean {close[0]!r}? " if close else ""
        raise PluginError(f"unknown {kind} {name!r}", hint=f"{said}known: {', '.join(sorted(known)) or 'none'}")
    return known[name]


def load_file(path: str | Path) -> object:
    """Import a local Python file as a plugin (`--plugin ./mine.py`), once a process while it does not change."""
    path = Path(path).resolve()
    return _load_file(path, path.stat().st_mtime_ns if path.is_file() else 0)


@cache
def _load_file(path: Path, changed: int) -> object:
    if not path.is_file():
        raise PluginError(f"{path}: no such plugin file")
    spec = importlib.util.spec_from_file_location(f"convx_local_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def check(plugin: object, name: str) -> None:
    """Refuse what pluggy would take silently: a misspelt or unmarked hook, an argument that is never filled."""
    for attribute in dir(plugin):
        if not attribute.startswith("convx_"):
            continue
        function = getattr(plugin, attribute)
        if not callable(function) or inspect.ismodule(function):
            continue
        _check_hook(name, attribute, function)


def _check_hook(plugin: str, hook: str, function: Any) -> None:  # noqa: ANN401
    where = f"plugin {plugin!r}, {hook}"
    if hook not in hookspecs.HOOKS:
        close = difflib.get_close_matches(hook, hookspecs.HOOKS, n=1)
        raise PluginError(f"{where}: there is no such hook", hint=f"did you mean {close[0]}?" if close else None)
    if not hasattr(function, "convx_impl"):
        raise PluginError(f"{where}: not marked", hint="put @convx.hookimpl above it")
    known = inspect.signature(hookspecs.HOOKS[hook]).parameters
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind in {parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
            raise PluginError(f"{where}: argument {parameter.name!r} must be an ordinary one")
        if parameter.default is not parameter.empty:
            raise PluginError(f"{where}: argument {parameter.name!r} has a default, so it is never filled")
        if parameter.name not in known:
            raise PluginError(f"{where}: unknown argument {parameter.name!r}", hint=f"known: {', '.join(known)}")


class Hooks:
    """The plugins of one run, asked through one typed method a hook.

    An exception that escapes a plugin becomes a PluginError naming the plugin and the hook; a ConvxError
    passes as it is.
    """

    def __init__(self, plugins: Iterable[tuple[str, object]] = ()) -> None:
        self._manager = pluggy.PluginManager("convx")
        self._manager.add_hookspecs(hookspecs)
        for name, plugin in plugins:
            self.register(plugin, name)

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin; it is asked before those that are already here."""
        check(plugin, name)
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {name!r}: {error}") from error

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self._manager.list_name_plugin()]

    def _call(self, hook: str, **arguments: object) -> Any:  # noqa: ANN401
        caller = getattr(self._manager.hook, hook)
        try:
            return caller(**arguments)
        except ConvxError:
            raise
        except (Exception, SystemExit) as error:
            name = _culprit(caller.get_hookimpls(), error)
            raise PluginError(
                f"plugin {name!r} failed in {hook}: {type(error).__name__}: {error}",
                hint="--debug shows where; this is a fault of the plugin",
            ) from error

    def format(self) -> Format | None:
        result = self._call("convx_format")
        if result is not None and not isinstance(result, Format):
            raise PluginError(f"convx_format gave a {type(result).__name__}, not a Format")
        return result

    def recipe(self) -> Traversable | None:
        result: Traversable | None = self._call("convx_recipe")
        return result

    def detect(self, config: Config) -> float | None:
        found = self._call("convx_detect", config=config)
        return max((float(_expect("convx_detect", r, (int, float))) for r in found), default=None)

    def sanitize_config(self, config: Config, options: Options) -> Config:
        result: Config | None = self._call("convx_sanitize_config", config=config, options=options)
        return config if result is None else _expect("convx_sanitize_config", result, dict)

    def declare_weights(
        self, shapes: Mapping[str, tuple[int, ...]], config: Config, options: Options
    ) -> dict[str, tuple[int, ...]]:
        result = self._call("convx_declare_weights", shapes=shapes, config=config, options=options)
        return dict(shapes if result is None else result)

    def sanitize_weights(self, weights: dict[str, Tensor], config: Config, options: Options) -> dict[str, Tensor]:
        result = self._call("convx_sanitize_weights", weights=dict(weights), config=config, options=options)
        return weights if result is None else dict(_expect("convx_sanitize_weights", result, dict))

    def explain_tensor(self, name: str, config: Config, options: Options) -> str | None:
        result: str | None = self._call("convx_explain_tensor", name=name, config=config, options=options)
        return result

    def tensor_role(self, name: str, config: Config) -> Placement:
        from convx.roles import Placement, Role

        result: Placement | None = self._call("convx_tensor_role", name=name, config=config)
        return Placement(Role.OTHER) if result is None else _expect("convx_tensor_role", result, Placement)

    def tensor_predicate(self, tensor: TensorInfo, config: Config) -> Decision | None:
        from convx.specs import Decision

        result: Decision | None = self._call("convx_tensor_predicate", tensor=tensor, config=config)
        return result and _expect("convx_tensor_predicate", result, Decision)

    def tensor_floors(self, tensor: TensorInfo, config: Config) -> list[Floor]:
        from convx.specs import Floor

        floors = self._call("convx_tensor_floor", tensor=tensor, config=config)
        return [_expect("convx_tensor_floor", floor, Floor) for floor in floors]

    def fold_groups(self, weights: dict[str, Tensor], config: Config) -> list[FoldGroup]:
        return [g for groups in self._call("convx_fold_groups", weights=weights, config=config) for g in groups]

    def export_processor(self, source: Source, config: Config, options: Options) -> Export:
        from convx.export import Export

        result = self._call("convx_export_processor", source=source, config=config, options=options)
        return _expect("convx_export_processor", result, Export)

    def post_save_patches(self, checkpoint: Checkpoint, config: Config, target: str | None) -> list[Patch]:
        results = self._call("convx_post_save_patch", checkpoint=checkpoint, config=config, target=target)
        return [patch for patches in results for patch in patches]

    def render_card(self, facts: Facts) -> list[Section]:
        from convx.card import Section

        given = self._call("convx_render_card", facts=facts)
        return [_expect("convx_render_card", section, Section) for sections in given for section in sections]

    def jinja_environment(self, env: SandboxedEnvironment) -> None:
        self._call("convx_jinja_environment", env=env)

    def finished(self, report: Report) -> None:
        self._call("convx_finished", report=report)


T = TypeVar("T")


def _expect(hook: str, result: object, kind: type[T] | tuple[type[T], ...]) -> T:
    """The result of a hook, if it is of the kind that the hook gives. Raises PluginError otherwise."""
    if isinstance(result, kind):
        return result
    wanted = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
    raise PluginError(f"{hook} gave a {type(result).__name__}, not a {wanted}", hint="see docs/reference/hooks.md")


def _culprit(implementations: list[Any], error: BaseException) -> str:
    """The plugin whose function is the outermost of the implementations on the error's traceback."""
    owners = {getattr(i.function, "__code__", None): i.plugin_name for i in implementations}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in owners:
            return str(owners[trace.tb_frame.f_code])
        trace = trace.tb_next
    return ", ".join(str(i.plugin_name) for i in implementations)


def load_format(name: str) -> Format:
    """The format that the plugin of this name adds."""
    plugin = find(FORMATS, name).load()
    found = Hooks([(name, plugin)]).format()
    if found is None:
        raise PluginError(f"plugin {name!r} gives no format", hint="implement convx_format")
    return found


class Formats(Mapping[str, Format]):
    """All formats on offer, by name; each is loaded when it is looked up. `local` ones come from plugin files."""

    def __init__(self, local: Mapping[str, Format] | None = None) -> None:
        self._loaded: dict[str, Format] = dict(local or {})

    def __getitem__(self, name: str) -> Format:
        if name not in self:
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = load_format(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._loaded or name in offers(FORMATS)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*offers(FORMATS), *self._loaded]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def by_mode(self, mode: str, bits: int, group_size: int) -> Format:
        """The format that a loader's config entry means: convx's own before a third party's of the same mode.

        Raises PluginError when none is on offer.
        """
        for name in sorted(
            self, key=lambda n: n not in offers(FORMATS) or offers(FORMATS)[n].distribution != OWN_DISTRIBUTION
        ):
            found = self[name]
            if (found.mode, found.bits) == (mode, bits):
                return found.regrouped(group_size)
        raise PluginError(f"no format plugin stores mode {mode!r} at {bits} bits")


def detect_architecture(config: Config) -> str:
    """The one architecture plugin that claims this config most surely. Raises PluginError if none or two do."""
    claims = {}
    for name, offer in offers(ARCHITECTURES).items():
        confidence = Hooks([(name, offer.load())]).detect(config)
        if confidence is not None:
            claims[name] = confidence
    best = max(claims.values(), default=0.0)
    winners = sorted(name for name, confidence in claims.items() if confidence == best)
    model_type = config.get("model_type")
    if not winners:
        known = ", ".join(sorted(offers(ARCHITECTURES)))
        raise PluginError(f"no architecture plugin knows model_type {model_type!r}", hint=f"known: {known}")
    if len(winners) > 1:
        raise PluginError(f"{' and '.join(winners)} both claim model_type {model_type!r}", hint="choose with --arch")
    return winners[0]
