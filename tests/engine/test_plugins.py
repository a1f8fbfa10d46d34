"""Plugins: found by metadata, checked when they are loaded, named when they fail."""

from __future__ import annotations

import types

import pytest

from convx import hookimpl, hookspecs, plugins
from convx.errors import PluginError
from convx.plugins import FORMATS, GROUPS, Formats, Hooks, find, load_file, offers
from convx.roles import Placement, Role


def module(**functions) -> types.SimpleNamespace:
    return types.SimpleNamespace(**functions)


def test_every_built_in_loads_and_registers_like_a_third_partys():
    for group in GROUPS:
        for name, offer in offers(group).items():
            Hooks([(name, offer.load())])


def test_formats_are_loaded_one_at_a_time():
    formats = Formats()
    assert "nvfp4" in formats and "nonsense" not in formats
    assert formats._loaded == {}
    assert formats["nvfp4"].config_entry() == {"group_size": 16, "bits": 4, "mode": "nvfp4"}
    assert formats.by_mode("affine", 4, 32).spec == "affine4:g32"
    with pytest.raises(PluginError, match="no format plugin stores mode 'mxfp9'"):
        formats.by_mode("mxfp9", 9, 32)


def test_only_built_ins_when_plugins_are_off(monkeypatch):
    monkeypatch.setenv("CONVX_PLUGINS", "off")
    assert {o.distribution for g in GROUPS for o in offers(g).values()} == {"convx"}


def test_two_distributions_that_offer_one_name(monkeypatch):
    class Distribution:
        def __init__(self, name):
            self.metadata, self.version = {"Name": name}, "1"
            self.entry_points = [types.SimpleNamespace(group=FORMATS, name="nvfp4", value="x")]

    monkeypatch.setattr(plugins, "distributions", lambda: [Distribution("one"), Distribution("two")])
    plugins._offers.cache_clear()
    try:
        with pytest.raises(PluginError, match="one and two both offer 'nvfp4'"):
            offers(FORMATS)
    finally:
        plugins._offers.cache_clear()


def test_a_plugin_that_cannot_be_imported(monkeypatch):
    offer = plugins.Offer(FORMATS, "broken", "someone", "2", types.SimpleNamespace(load=lambda: 1 / 0))
    with pytest.raises(PluginError, match="'broken' of someone 2 cannot be imported: ZeroDivisionError"):
        offer.load()


def test_unknown_names_come_with_a_suggestion():
    with pytest.raises(PluginError, match=r"(?s)unknown format 'nvpf4'.*did you mean 'nvfp4'"):
        find(FORMATS, "nvpf4")


@hookimpl
def _defaulted(name, config={}):  # noqa: B006
    return None


@hookimpl
def _keyword_only(*, name):
    return None


@hookimpl
def _unknown_argument(name, shape):
    return None


def _unmarked(name):
    return None


@pytest.mark.parametrize(
    ("hook", "function", "message"),
    [
        ("convx_tensor_role", _defaulted, "'config' has a default, so it is never filled"),
        ("convx_tensor_role", _keyword_only, "'name' must be an ordinary one"),
        ("convx_tensor_role", _unknown_argument, "unknown argument 'shape'"),
        ("convx_tensor_role", _unmarked, "not marked"),
        ("convx_tensor_rolle", _unmarked, "there is no such hook"),
    ],
)
def test_what_pluggy_takes_silently_is_an_error(hook, function, message):
    with pytest.raises(PluginError, match=message):
        Hooks([("mine", module(**{hook: function}))])


def test_the_last_registered_is_asked_first_and_none_passes_on():
    @hookimpl
    def first(name):
        return Placement(Role.NORM)

    @hookimpl
    def second(name):
        return Placement(Role.MLP_UP) if name == "x" else None

    hooks = Hooks([("one", module(convx_tensor_role=first)), ("two", module(convx_tensor_role=second))])
    assert hooks.tensor_role("x", {}).role is Role.MLP_UP
    assert hooks.tensor_role("y", {}).role is Role.NORM
    assert Hooks().tensor_role("y", {}).role is Role.OTHER


def test_a_plugin_that_raises_is_named_with_its_hook():
    @hookimpl
    def role(name):
        raise KeyError(name)

    with pytest.raises(PluginError, match="plugin 'mine' failed in convx_tensor_role: KeyError"):
        Hooks([("quiet", module()), ("mine", module(convx_tensor_role=role))]).tensor_role("x", {})


def test_a_local_file_is_a_plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import convx\n@convx.hookimpl\ndef convx_detect(config):\n    return 0.5\n")
    assert Hooks([("mine", load_file(path))]).detect({}) == 0.5
    path.write_text("import nothing_like_this\n")
    with pytest.raises(PluginError, match="cannot be imported: ModuleNotFoundError"):
        load_file(path)


@pytest.mark.parametrize("name", hookspecs.HOOKS)
def test_every_hook_says_when_it_is_called_and_how_results_combine(name):
    text = hookspecs.HOOKS[name].__doc__
    assert text and ("(first" in text or "(all" in text)


def test_every_hook_has_a_method_on_the_front():
    for name in hookspecs.HOOKS:
        short = name.removeprefix("convx_")
        methods = {short, f"{short}s", f"{short}es"}
        assert methods & set(vars(Hooks)), name


def test_a_file_may_be_an_architecture_and_a_format(tiny, tmp_path):
    from convx.cli import run

    format_file, arch_file = tmp_path / "wide.py", tmp_path / "mine.py"
    format_file.write_text(
        "from dataclasses import dataclass\nfrom convx import hookimpl\nfrom convx_affine.format import Affine\n"
        "@dataclass(frozen=True)\nclass Wide(Affine):\n    @property\n    def name(self):\n        return 'wide8'\n"
        "@hookimpl\ndef convx_format():\n    return Wide(bits=8)\n"
    )
    arch_file.write_text("from convx_gemma4 import *\nfrom convx_gemma4 import convx_detect, convx_sanitize_config, "
                         "convx_sanitize_weights, convx_explain_tensor, convx_tensor_role\n")  # fmt: skip
    arguments = ["--plugin", str(format_file), "--plugin", str(arch_file), "--arch", "mine", "--format", "wide8"]
    assert run([str(tiny("gemma4-moe")), str(tmp_path / "out"), *arguments, "--quiet"]) == 0
    assert run(["verify", str(tmp_path / "out")]) == 0
