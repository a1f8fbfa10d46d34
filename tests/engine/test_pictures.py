"""Pictures of a checkpoint: from its record alone, the same every time, told in words too."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from convx.checkpoint import read_record, write_record
from convx.cli import run
from convx.errors import ConvxError
from convx.pictures import Picture, draw_pictures, picture_markdown, record_pictures, recorded_pictures
from convx.pictures.grids import BitsGrid, ErrorGrid
from convx.pictures.pareto import Pareto
from convx.pictures.sizes import Sizes
from convx.verify import verify

pytest.importorskip("matplotlib", reason="pictures need convx[plot]")


def tensor(role: str, layer: int | None, bits: int, shape: tuple[int, ...] = (64, 64), **other: Any) -> dict[str, Any]:
    elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return {"name": f"{role}.{layer}", "role": role, "layer": layer, "bits": bits, "shape": list(shape),
            "bytes": elements * bits // 8, **other}  # fmt: skip


def record(*tensors: dict[str, Any], name: str = "mine-nvfp4", **other: Any) -> dict[str, Any]:
    whole = {
        "versions": {},
        "dropped": [],
        "architecture": "some",
        "siblings": [],
        "files": {},
        "total_bytes": 1_000_000,
    }
    return {"name": name, "tensors": list(tensors), **whole, **other}


def divergence(kl: float, reference: str = "source", batch: int = 1) -> dict[str, Any]:
    return {
        "kl": [{"settings": {"reference": reference, "batch": batch}, "values": {"mean": kl, "standard_error": kl / 9}}]
    }


@pytest.fixture
def checkpoint(converted, tmp_path) -> Path:
    return Path(shutil.copytree(converted("gemma4-moe"), tmp_path / "model"))


def test_the_words_say_what_the_picture_shows():
    mixed = record(
        tensor("embedding", None, 8), tensor("norm", 0, 16, (64,)),
        *[tensor("mlp-down", layer, 8 if layer == 0 else 4) for layer in range(3)],
    )  # fmt: skip
    assert BitsGrid(mixed).alt == (
        "Heat map of stored bits by role and layer, 3 layers: embedding 8 outside layers; "
        "mlp-down 4 in 2 layers, 8 in 1 layer."
    )
    assert Sizes(mixed).alt == (
        "Bar chart of size by role, 12.4 kB in all: "
        "mlp-down 8.2 kB, 66.0 %; embedding 4.1 kB, 33.0 %; norm 0.1 kB, 1.0 %."
    )


def test_many_roles_share_a_last_bar():
    bars = Sizes(record(*[tensor(f"role-{i}", 0, 4, (64, 64 * (i + 1))) for i in range(20)])).bars
    assert len(bars) == 14 and bars[0][0] == "role-19" and bars[-1][0] == "7 other roles"


def test_errors_are_drawn_where_they_have_been_measured():
    rows = [
        {"name": "", "role": "mlp-up", "layer": layer, "elements": 10, "relative_error": 0.1 * layer}
        for layer in range(3)
    ]
    measured = record(measurements={"tensors": [{"settings": {}, "values": {"tensors": rows}}]})
    assert not ErrorGrid(record()).found
    assert ErrorGrid(measured).alt == (
        "Relative error of the weights by layer and role: from 10 % to 20 % over 2 layers; "
        "the largest is 20 %, mlp-up in layer 2."
    )


def test_siblings_are_compared_where_they_were_measured_alike(tmp_path):
    names = ("mine-mxfp4", "mine-bf16", "mine-other", "mine-gone", "../mine-outside")
    others = [{"name": name, "format": "", "bits_per_weight": 4.0, "total_bytes": 1} for name in names]
    for name, kl, size, reference in (("mine-mxfp4", 0.2, 900_000, "source"), ("mine-bf16", 0.001, 4_000_000, "source"),
                                      ("mine-other", 0.1, 1, "another")):  # fmt: skip
        (tmp_path / name).mkdir()
        write_record(
            tmp_path / name, record(name=name, measurements=divergence(kl, reference, 8)) | {"total_bytes": size}
        )
    mine = record(siblings=others, measurements=divergence(0.3))
    chart = Pareto(mine, tmp_path)
    assert chart.alt == (
        "Size against KL divergence from the source, for 3 siblings: mine-mxfp4 0.90 MB, KL 0.2; "
        "mine-nvfp4 1.00 MB, KL 0.3; mine-bf16 4.00 MB, KL 0.001."
    )
    assert [p.name for p in chart.front] == ["mine-mxfp4", "mine-bf16"]
    assert not Pareto(record(siblings=others), tmp_path).found
    assert not Pareto(mine, None).found


def test_equal_records_give_equal_files(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_record(folder, record(tensor("mlp-up", 0, 4), tensor("$x_1$ <b>", 1, 8)))
        drawn = draw_pictures(folder)
    assert [p.name for p in drawn] == ["bits-by-layer", "size-by-role"]
    files = sorted(p.name for p in (tmp_path / "a" / "images").iterdir())
    assert len(files) == 8
    for name in files:
        content = (tmp_path / "a" / "images" / name).read_bytes()
        assert content == (tmp_path / "b" / "images" / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith(".png") else b"<?xml")


def test_a_card_with_pictures_still_verifies(checkpoint):
    assert run(["card", str(checkpoint), "--pictures"]) == 0
    found = read_record(checkpoint)
    for picture in recorded_pictures(found):
        assert {picture.light, picture.dark, picture.light.replace(".png", ".svg")} <= set(found["files"])
        assert picture.alt.count("\n") == 0
    verdict = verify(checkpoint, load=False)
    assert verdict.ok and not verdict.findings
    (checkpoint / "images" / "size-by-role-dark.svg").write_text("<svg/>")
    assert not verify(checkpoint, load=False).ok


def test_pictures_that_are_no_more_go(checkpoint):
    drawn = draw_pictures(checkpoint)
    record_pictures(checkpoint, drawn)
    record_pictures(checkpoint, drawn[:1])
    assert len(list((checkpoint / "images").iterdir())) == 4
    assert verify(checkpoint, load=False).ok


def test_a_record_names_no_file_elsewhere():
    outside = {"name": "x", "alt": "", "light": "../x.png", "dark": "images/../../x.png"}
    assert recorded_pictures({"pictures": [outside]}) == []


def test_markdown_is_inert_whatever_the_words():
    said = picture_markdown(
        [Picture("x", 'a "quote" <script>\n\n# no heading', "images/x-light.png", "images/x-dark.png")]
    )
    assert said == (
        '<picture>\n<source media="(prefers-color-scheme: dark)" srcset="images/x-dark.png">\n'
        '<img src="images/x-light.png" alt="a &quot;quote&quot; &lt;script&gt; # no heading" width="700">\n</picture>'
    )


def test_without_matplotlib_it_says_what_to_install(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    before = json.dumps(read_record(checkpoint))
    with pytest.raises(ConvxError, match=r"convx\[plot\]"):
        draw_pictures(checkpoint)
    assert json.dumps(read_record(checkpoint)) == before
    assert not (checkpoint / "images").exists()
