"""Sources that are not sound are refused with one clear error, before anything relies on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convx.errors import ConvxError, SourceError
from convx.source import open_source, read_header
from convx.storage import StoredFile


def write_shard(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(begin: int = 0, end: int = 8, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


BROKEN = {
    "no header": (b"", b"", 0, "not JSON"),
    "longer than the file": ({"a": entry()}, b"\0" * 8, 1 << 40, "the header claims"),
    "not JSON": (b"{nope", b"", None, "not JSON"),
    "not an object": ([], b"", None, "not an object"),
    "name twice": (b'{"a": 1, "a": 2}', b"", None, "'a' twice"),
    "dtype unknown": ({"a": entry(dtype="F4")}, b"\0" * 8, None, "dtype 'F4'"),
    "shape negative": ({"a": entry(shape=(-2,))}, b"\0" * 8, None, "shape"),
    "shape is true": ({"a": {**entry(), "shape": [True, 2]}}, b"\0" * 8, None, "shape"),
    "offsets swapped": ({"a": entry(8, 0)}, b"\0" * 8, None, "bytes stored"),
    "offsets of another size": ({"a": entry(0, 4)}, b"\0" * 8, None, "bytes stored"),
    "overlap": ({"a": entry(), "b": entry(4, 12)}, b"\0" * 12, None, "overlaps"),
    "gap": ({"a": entry(), "b": entry(12, 20)}, b"\0" * 20, None, "belong to nothing"),
    "truncated": ({"a": entry()}, b"\0" * 4, None, "too early"),
    "trailing bytes": ({"a": entry()}, b"\0" * 12, None, "after the last tensor"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_headers(tmp_path, case):
    header, data, length, message = BROKEN[case]
    path = write_shard(tmp_path / "model.safetensors", header, data, length)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SourceError, match=message) as error:
        open_source(tmp_path)
    assert str(path) in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("h") / "model.safetensors"
    path.write_bytes(raw)
    try:
        read_header(StoredFile(path))
    except ConvxError:
        pass


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5))
def test_sound_headers_give_every_tensor(tmp_path_factory, shapes):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for n, shape in enumerate(shapes):
        size = int(np.prod(shape)) * 2
        header[f"t{n}"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    path = write_shard(tmp_path_factory.mktemp("h") / "model.safetensors", header, b"\1" * at)
    _, found = read_header(StoredFile(path))
    assert [list(t.shape) for t in found] == shapes
    assert all(t.lazy().read().shape == t.shape for t in found)


@pytest.fixture
def folder(tiny, tmp_path):
    return Path(shutil.copytree(tiny("gemma4-moe", "transformers5"), tmp_path / "source"))


def test_opens_shards_and_sidecars(folder):
    source = open_source(folder)
    assert len(source.files) > 1
    assert "tokenizer.json" in source.sidecars
    assert "config.json" not in source.sidecars
    assert source.nbytes == sum(t.nbytes for t in source.tensors.values())


def test_a_bare_config_has_no_tensors(folder):
    source = open_source(folder / "config.json")
    assert source.bare and not source.tensors and not source.sidecars


def test_index_that_leaves_the_folder(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    name = next(iter(index["weight_map"]))
    index["weight_map"][name] = "../x.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match="outside the checkpoint's folder"):
        open_source(folder)


def test_missing_shard(folder):
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(SourceError, match="shard model-00002.* is missing"):
        open_source(folder)


def test_index_names_a_tensor_that_no_shard_has(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["ghost"] = next(iter(index["weight_map"].values()))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match="lacks ghost"):
        open_source(folder)


@pytest.mark.parametrize(("where", "message"), [("nowhere", "no such folder"), (".", "no config.json")])
def test_not_a_checkpoint(tmp_path, monkeypatch, where, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        open_source(where)


def test_config_that_is_not_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(SourceError, match="config.json: not readable as JSON"):
        open_source(folder)


def test_a_hub_id_that_cannot_be_fetched(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceError, match="cannot be fetched from the Hub"):
        open_source("no-such-owner/no-such-model")
