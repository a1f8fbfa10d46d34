"""The recipe language: what rules match, what a spec means, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from convx.decide import TensorInfo
from convx.dtypes import BF16
from convx.errors import RecipeError
from convx.plugins import Formats
from convx.recipes import load_recipe
from convx.recipes.layers import Layers
from convx.roles import Placement, Role
from convx.specs import parse_spec

FORMATS = Formats()
HEAD = 'version = "1.0"\ndescription = "for a test"\n'


def weight(module: str, role: Role, layer: int | None = None, attention: str | None = None) -> TensorInfo:
    place = Placement(role, layer, 8 if layer is not None else None, attention)
    return TensorInfo(f"{module}.weight", (128, 128), BF16, place, quantizable=True)


MODEL = [
    weight("embed", Role.EMBEDDING),
    *(weight(f"layers.{n}.q", Role.ATTENTION_Q, n, "full" if n % 4 == 3 else "sliding") for n in range(8)),
    *(weight(f"layers.{n}.down", Role.MLP_DOWN, n) for n in range(8)),
    *(weight(f"layers.{n}.experts.down", Role.EXPERT_DOWN, n) for n in range(8)),
]


@pytest.fixture
def recipe(tmp_path):
    """recipe(text, name) -> path of a recipe file; `text` follows the version and the description."""

    def write(text: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(HEAD + text)
        return path

    return write


def decisions(path: Path, base: str = "affine4", tensors=MODEL, **settings: str) -> dict[str, str]:
    """module -> SPEC, of the weights that a rule fits."""
    plugin = load_recipe(str(path), settings, FORMATS)
    plugin.begin(parse_spec(base, FORMATS), tensors)
    plugin.check_all_used()
    found = {t.module: plugin.convx_tensor_predicate(t) for t in tensors}
    return {module: d.spec.spec for module, d in found.items() if d is not None}


def rule(conditions: str, spec: str = "mxfp8") -> str:
    return f'[[rules]]\n{conditions}\nspec = "{spec}"\n'


@pytest.mark.parametrize(
    ("conditions", "modules"),
    [
        ('role = "embedding"', ["embed"]),
        ('role = "embeddings"', ["embed"]),
        ('role = ["attention", "embedding"]', ["embed", *(f"layers.{n}.q" for n in range(8))]),
        ("expert = true", [f"layers.{n}.experts.down" for n in range(8)]),
        ('role = "attention"\nattention = "full"', ["layers.3.q", "layers.7.q"]),
        (r'path = "layers\\.[12]\\.q$"', ["layers.1.q", "layers.2.q"]),
        ('role = "mlp"\nlayers = "edge(1)"', ["layers.0.down", "layers.7.down"]),
        ('role = "mlp"\nlayers = 2', ["layers.2.down"]),
        ('role = "mlp"\nmodel = "moe"\nlayers = ["0", "-1"]', ["layers.0.down", "layers.7.down"]),
    ],
)
def test_conditions(recipe, conditions, modules):
    assert sorted(decisions(recipe(rule(conditions)))) == sorted(modules)


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        (["0..3"], {0, 1, 2, 3}),
        (["-2..-1"], {28, 29}),
        (["5"], {5}),
        (["28..99"], {28, 29}),
        (["edge(2)"], {0, 1, 28, 29}),
        (["middle(13)"], {13, 14, 15, 16}),
        (["first(1/8)"], {0, 1, 2}),
        (["last(1/8)"], {26, 27, 28, 29}),
        (["every(10)"], {9, 19, 29}),
        (["every(2) of first(6)"], {1, 3, 5}),
        (["0", "29"], {0, 29}),
    ],
)
def test_layers(words, layers):
    assert Layers(tuple(words)).of(30) == layers


@pytest.mark.parametrize("count", range(1, 70))
def test_layers_of_the_mixed_recipes_are_those_of_mlx_lm(count):
    chosen = {
        i for i in range(count)
        if i < count // 8 or i >= 7 * count // 8 or (i - count // 8) % 3 == 2
    }  # fmt: skip
    assert Layers(("edge(1/8)", "every(3) of middle(1/8)")).of(count) == chosen


@pytest.mark.parametrize(
    ("base", "spec", "means"),
    [
        ("affine4", "base", "affine4:g64"),
        ("affine4:g32", "base@6", "affine6:g32"),
        ("affine4", "base+1", "affine5:g64"),
        ("affine4", "base+3", "affine8:g64"),
        ("affine8", "base+2", "affine8:g64"),
        ("affine6", "base>=5", "affine6:g64"),
        ("affine4", "base>=5", "affine5:g64"),
        ("mxfp4", "base@8", "mxfp8"),
        ("mxfp4", "base@3", "mxfp4"),
        ("mxfp4", "base@6", "mxfp8"),
        ("nvfp4", "base@6", "affine6:g64"),
        ("bf16", "base@6", "affine6:g64"),
        ("bf16", "base>=6", "bf16"),
        ("affine4", "affine{base+1}", "affine5:g64"),
        ("affine4", "affine{bits+1}:g32", "affine3:g32"),
        ("affine4", "base@{bits}", "affine2:g64"),
        ("affine4", "{word}", "nvfp4"),
        ("affine4", "keep", "keep"),
        ("affine4", "affine3:g128", "affine3:g128"),
    ],
)
def test_specs(recipe, base, spec, means):
    path = recipe(f'[parameters]\nbits = 2\nword = "nvfp4"\n{rule("", spec)}')
    assert set(decisions(path, base).values()) == {means}


def test_the_first_rule_that_fits_speaks(recipe):
    path = recipe(rule('role = "mlp"\nlayers = "edge(1)"', "bf16") + rule('role = "mlp"', "mxfp4"))
    found = decisions(path)
    assert found["layers.0.down"] == "bf16"
    assert found["layers.1.down"] == "mxfp4"


def test_reasons_are_carried(recipe):
    plugin = load_recipe(str(recipe(rule('role = "mlp"\nreason = "serves every token"'))), {}, FORMATS)
    plugin.begin(parse_spec("affine4", FORMATS), MODEL)
    assert plugin.convx_tensor_predicate(MODEL[9]).reason == "serves every token (mine)"


def test_parameters(recipe):
    text = '[parameters]\nbits = { default = 4, max = 8 }\nmx = false\n[replace.mx]\n"affine4:g64" = "mxfp4"\n'
    path = recipe(text + rule('role = "mlp"', "affine{bits}") + rule("replace = false", "affine{bits}"))
    assert decisions(path)["layers.0.down"] == "affine4:g64"
    assert decisions(path, bits="6")["layers.0.down"] == "affine6:g64"
    found = decisions(path, mx="true")
    assert (found["layers.0.down"], found["embed"]) == ("mxfp4", "affine4:g64")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bitz": "6"}, "--set bitz=6: recipe mine has no such parameter\n  did you mean 'bits'"),
        ({"bits": "six"}, "--set bits=six: takes a whole number"),
        ({"bits": "9"}, "--set bits=9: must be at most 8"),
        ({"mx": "1"}, "--set mx=1: takes true or false"),
    ],
)
def test_settings_that_do_not_fit(recipe, settings, message):
    text = '[parameters]\nbits = { default = 4, max = 8 }\nmx = false\n[replace.mx]\naffine4 = "mxfp4"\n'
    with pytest.raises(RecipeError) as error:
        load_recipe(str(recipe(text + rule("", "affine{bits}"))), settings, FORMATS)
    assert str(error.value).startswith(message)


def test_a_setting_that_changes_nothing(recipe):
    path = recipe('base = "affine{bits}"\n[parameters]\nbits = 4\n')
    assert decisions(path, "affine6", bits="6")["embed"] == "affine6:g64"
    with pytest.raises(RecipeError, match="--set bits changes nothing"):
        decisions(path, "mxfp4", bits="6")


def test_inheritance(recipe):
    recipe(
        'base = "affine{low}"\n[parameters]\nlow = { default = 4, min = 3 }\n' + rule("", "affine{low}"),
        "old",
    )
    path = recipe('extends = "old.toml"\n[parameters]\nlow = 3\n' + rule('role = "mlp"', "bf16"), "new")
    found = decisions(path)
    assert (found["layers.0.down"], found["embed"]) == ("bf16", "affine3:g64")
    made = load_recipe(str(path), {}, FORMATS)
    assert made.base.spec == "affine3:g64"
    assert "# extends old 1.0:" in made.recipe.source.text
    with pytest.raises(RecipeError, match="at least 3"):
        load_recipe(str(path), {"low": "2"}, FORMATS)


def test_an_inherited_rule_may_be_overruled(recipe):
    recipe(rule('role = "mlp"', "mxfp4"), "old")
    assert decisions(recipe('extends = "old.toml"\n' + rule('role = "mlp"', "bf16")))["layers.0.down"] == "bf16"


FAULTS = {
    "typo in a role": ('[[rules]]\nspec = "keep"\nrole = "expert-dwon"\n', 5, "did you mean 'expert-down'"),
    "typo in a key": ('[[rules]]\nspec = "keep"\nlayer = "0"\n', 5, "did you mean 'layers'"),
    "typo above": ('extend = "other"\n', 3, "unknown key 'extend'\n  did you mean 'extends'"),
    "impossible width": ('[[rules]]\nrole = "mlp"\nspec = "affine7"\n', 5, "unknown format 'affine7'"),
    "impossible base width": ('[[rules]]\nspec = "base@7"\n', 4, "no format has 7 bits"),
    "impossible group": ('[[rules]]\nspec = "mxfp4:g64"\n', 4, "mxfp4 has no group size 64"),
    "unknown parameter": ('[[rules]]\nspec = "affine{bitz}"\n', 4, "unknown parameter 'bitz'"),
    "unknown family": ('[parameters]\nbits = 4\n[[rules]]\nspec = "afine{bits}"\n', 6, "no format afineN"),
    "second rule": (rule("", "base") + '[[rules]]\nrole = "mpl"\nspec = "base"\n', 7, "unknown word 'mpl'"),
    "no spec": ('[[rules]]\nrole = "mlp"\n', 3, "a rule needs a spec"),
    "layers": ('[[rules]]\nspec = "base"\nlayers = "middle"\n', 5, "'middle' names no layers"),
    "fraction": ('[[rules]]\nspec = "base"\nlayers = "first(3/2)"\n', 5, "a fraction is"),
    "attention": ('[[rules]]\nspec = "base"\nattention = "ful"\n', 5, "unknown word 'ful'"),
    "path": ('[[rules]]\nspec = "base"\npath = "("\n', 5, "is not a regular expression"),
    "type": ('[[rules]]\nspec = 4\n', 4, "spec is text, not 4"),
    "type of a flag": ('[[rules]]\nspec = "base"\noptional = "yes"\n', 5, "optional is true or false"),
    "base of a base": ('base = "base+1"\n', 3, "cannot speak of the base"),
    "parameter": ("[parameters]\nbits = 4.5\n", 4, "default is a number or true or false or text, not 4.5"),
    "no default": ("[parameters.bits]\nmin = 2\n", 3, "parameter bits needs a default"),
    "bound": ('[parameters]\nbits = { default = 4, min = "2" }\n', 4, "min is a number, not '2'"),
    "parameter key": ("[parameters]\nbits = { defualt = 4 }\n", 4, "unknown key 'defualt'"),
    "bounds": ("[parameters]\nbits = { default = 9, max = 8 }\n", 4, "must be at most 8"),
    "replace": ('[replace.mx]\n"affine4:g64" = "mxfp4"\n', 4, "no parameter that is true or false"),
    "extends": ('extends = "nowhere.toml"\n', 3, "no such file"),
    "not TOML": ("[[rules]\n", 3, "not TOML"),
    "after long text": ('published = """\n[[rules]]\nspec = 1\n"""\n[[rules]]\nspec = 4\n', 8, "is text"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_file_and_line(recipe, fault):
    text, line, message = FAULTS[fault]
    path = recipe(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(str(path), {}, FORMATS)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)


def test_a_circle_of_recipes(recipe):
    recipe('extends = "second.toml"\n', "first")
    second = recipe('extends = "first.toml"\n', "second")
    message = r"second\.toml:3: recipes extend each other in a circle: second -> first -> second"
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(second), {}, FORMATS)


def test_a_circle_by_way_of_another_folder(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f'{HEAD}extends = "../{tmp_path.name}/mine.toml"\n')
    with pytest.raises(RecipeError, match=r"mine\.toml:3: .* in a circle: mine -> mine"):
        load_recipe(str(path), {}, FORMATS)


def test_a_rule_that_fits_nothing(recipe):
    path = recipe(rule('role = "mlp"') + rule('role = "router"'))
    with pytest.raises(RecipeError) as error:
        decisions(path)
    assert str(error.value).startswith(f"{path}:6: the rule fits no weight of this model")
    assert "optional = true" in str(error.value)
    assert decisions(recipe(rule('role = "router"\noptional = true'))) == {}


def test_a_rule_that_comes_too_late(recipe):
    path = recipe(rule("") + rule('role = "mlp"'))
    with pytest.raises(RecipeError, match=f"{path}:6: earlier rules take every weight"):
        decisions(path)


@pytest.mark.parametrize("missing", ["version", "description"])
def test_a_recipe_says_what_it_is(tmp_path, missing):
    path = tmp_path / "mine.toml"
    path.write_text("".join(line for line in HEAD.splitlines(True) if missing not in line))
    with pytest.raises(RecipeError, match=f"mine.toml:1: a recipe needs a {missing}"):
        load_recipe(str(path), {}, FORMATS)
