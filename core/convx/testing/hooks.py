"""Rules that hold for every plugin's hooks, whatever it adds."""

from __future__ import annotations

import inspect
from typing import Any

from convx import hookspecs
from convx.plugins import check


def check_hooks(plugin: object) -> None:
    """Fails for a misspelt or unmarked hook, a defaulted or unknown argument, an annotation that is not the spec's."""
    check(plugin, _name(plugin))
    for name, spec in hookspecs.HOOKS.items():
        function = getattr(plugin, name, None)
        if function is not None:
            _check_annotations(name, function, spec)


def _check_annotations(name: str, function: Any, spec: Any) -> None:  # noqa: ANN401
    wanted = inspect.signature(spec).parameters
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self" or parameter.annotation is parameter.empty:
            continue
        given, expected = _word(parameter.annotation), _word(wanted[parameter.name].annotation)
        assert given == expected, f"{name}: {parameter.name} is annotated {given}, the hook gives {expected}"


def _word(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text.replace("convx.", "").replace("typing.", "").strip("'\"")


def _name(plugin: object) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__name__))
