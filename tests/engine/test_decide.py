"""Precedence, step by step: user, recipe, format; then floors, then what a format refuses."""

from __future__ import annotations

import pytest

from convx import Decision, Floor, hookimpl
from convx.decide import Decider, TensorInfo
from convx.dtypes import BF16, F32
from convx.errors import RecipeError
from convx.plugins import Formats, Hooks
from convx.roles import Placement, Role
from convx.specs import Plain, parse_spec

FORMATS = Formats()
LINEAR = TensorInfo("mlp.up.weight", (64, 256), BF16, Placement(Role.MLP_UP), quantizable=True)
NORM = TensorInfo("norm.weight", (64,), BF16, Placement(Role.NORM), quantizable=False)


class Rules:
    """A plugin that decides by a recipe and by floors given to it."""

    def __init__(self, recipe: str | None = None, *floors: Floor) -> None:
        self.recipe, self.floors = recipe, floors

    @hookimpl
    def convx_tensor_predicate(self) -> Decision | None:
        return Decision(parse_spec(self.recipe, FORMATS), "the recipe's reason", "recipe") if self.recipe else None

    @hookimpl
    def convx_tensor_floor(self) -> Floor | None:
        return self.floors[0] if self.floors else None


class SecondFloor(Rules):
    pass


def decider(*plugins: Rules, base: str = "affine4", user: tuple[tuple[str, str], ...] = ()) -> Decider:
    hooks = Hooks([(f"plugin {n}", plugin) for n, plugin in enumerate(plugins)])
    return Decider(hooks, {}, FORMATS, parse_spec(base, FORMATS), BF16, user)


def decided(made: Decider, tensor: TensorInfo = LINEAR) -> tuple[str, str, str]:
    found = made.decide(tensor)
    return found.spec.spec, found.by, found.reason


def test_the_format_when_nobody_else_speaks():
    assert decided(decider(Rules())) == ("affine4:g64", "format", "--format affine4:g64")


def test_the_recipe_before_the_format():
    assert decided(decider(Rules("mxfp8"))) == ("mxfp8", "recipe", "the recipe's reason")


def test_the_user_before_the_recipe():
    made = decider(Rules("mxfp8"), user=(("mlp", "nvfp4"),))
    assert decided(made) == ("nvfp4", "user", "--tensor mlp=nvfp4")
    made.check_all_used()
    assert made.warnings == []


def test_the_last_of_the_users_expressions_wins():
    made = decider(Rules(), user=(("mlp", "nvfp4"), (r"up$", "mxfp8"), ("down", "bf16")))
    assert decided(made) == ("mxfp8", "user", "--tensor up$=mxfp8")
    with pytest.raises(RecipeError, match="--tensor 'down' matches no tensor"):
        made.check_all_used()


def test_an_expression_that_another_overrules_is_used_all_the_same():
    made = decider(Rules(), user=(("mlp", "nvfp4"), ("mlp.up", "mxfp8")))
    decided(made)
    made.check_all_used()


@pytest.mark.parametrize("recipe", [None, "affine3"])
def test_a_floor_raises_format_and_recipe(recipe):
    floor = Floor("affine8:g64", "it routes")
    assert decided(decider(Rules(recipe, floor))) == ("affine8:g64", "floor", "it routes (floor)")


def test_a_floor_lowers_nothing():
    assert decided(decider(Rules("bf16", Floor("affine8:g64", "it routes"))))[0] == "bf16"
    assert decided(decider(Rules("mxfp8", Floor("affine6:g64", "it routes"))))[0] == "mxfp8"


def test_a_floor_of_one_mode_refuses_others():
    floor = Floor("affine8:g64", "it routes", modes=("affine",))
    assert decided(decider(Rules("mxfp8", floor)))[:2] == ("affine8:g64", "floor")
    assert decided(decider(Rules("affine8:g32", floor)))[:2] == ("affine8:g32", "recipe")
    assert decided(decider(Rules("bf16", floor)))[:2] == ("bf16", "recipe")


def test_the_highest_of_several_floors_holds():
    low, high = Floor("affine6:g64", "low"), Floor("affine8:g64", "high")
    assert decided(decider(Rules(None, high), SecondFloor(None, low)))[2] == "high (floor)"
    assert decided(decider(Rules(None, low), SecondFloor(None, high)))[2] == "high (floor)"


def test_floors_of_equal_width_hold_together():
    any_mode, affine = Floor("affine8:g64", "wide"), Floor("affine8:g64", "affine only", modes=("affine",))
    for first, second in ((any_mode, affine), (affine, any_mode)):
        made = decider(Rules("mxfp8", first), SecondFloor(None, second))
        assert decided(made)[2] == "affine only (floor)"


def test_the_user_may_go_below_a_floor_and_is_warned():
    made = decider(Rules(None, Floor("affine8:g64", "it routes")), user=(("mlp", "affine3"),))
    assert decided(made)[:2] == ("affine3:g64", "user")
    assert made.warnings == ["mlp.up: --tensor mlp=affine3:g64 is applied, below the floor affine8:g64 (it routes)"]


def test_keep_is_above_every_plain_type():
    made = decider(Rules(None, Floor("keep", "towers stay whole")), base="fp16")
    assert decided(made) == ("keep", "floor", "towers stay whole (floor)")


def test_what_loaders_hold_only_unquantized():
    made = decider(Rules("mxfp8"), user=(("norm", "nvfp4"),))
    assert decided(made, NORM)[:2] == ("bf16", "default")
    assert "the loaders hold it only unquantized" in made.warnings[0]
    made = decider(Rules(), user=(("norm", "fp32"),))
    assert decided(made, NORM)[:2] == ("fp32", "user")
    assert made.decide(NORM).spec == Plain(F32)


def test_a_smaller_group_where_the_width_does_not_divide():
    made = decider(Rules())
    tensor = TensorInfo("mlp.up.weight", (64, 96), BF16, Placement(Role.MLP_UP), quantizable=True)
    spec, by, reason = decided(made, tensor)
    assert (spec, by) == ("affine4:g32", "refusal")
    assert reason == "last axis 96 is not divisible by the group size 64; group size 32 (--format affine4:g64)"
    assert made.warnings == [f"mlp.up: {reason}"]


@pytest.mark.parametrize("base", ["affine4", "mxfp4", "nvfp4"])
def test_whole_where_no_group_divides(base):
    made = decider(Rules(), base=base)
    tensor = TensorInfo("mlp.up.weight", (64, 40), BF16, Placement(Role.MLP_UP), quantizable=True)
    assert decided(made, tensor)[:2] == ("bf16", "refusal")
    assert "kept in bf16" in made.warnings[0]


def test_a_refusal_after_a_floor_and_after_the_user():
    tensor = TensorInfo("mlp.up.weight", (64, 96), BF16, Placement(Role.MLP_UP), quantizable=True)
    assert decided(decider(Rules(None, Floor("affine8:g64", "it routes"))), tensor)[0] == "affine8:g32"
    assert decided(decider(Rules(), user=(("up", "affine6:g128"),)), tensor)[0] == "affine6:g32"


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (("(", "mxfp8"), "is not a regular expression"),
        (("mlp", "affin4"), r"--tensor mlp=affin4: unknown format 'affin4'\n  did you mean 'affine4'"),
        (("mlp", "mxfp8:g64"), "--tensor mlp=mxfp8:g64: mxfp8 has no group size 64"),
    ],
)
def test_expressions_that_cannot_be_read(user, message):
    with pytest.raises(RecipeError) as error:
        decider(Rules(), user=(user,))
    assert error.match(message)
