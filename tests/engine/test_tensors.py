"""Lazy tensors against numpy: any expression, any range of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convx.errors import SourceError, TensorError
from convx.shaping import map_rows
from convx.storage import Storage, StoredFile, View
from convx.tensors import Tensor, concatenate, row_count, row_length, split, stack


def stored(folder: Path, array: np.ndarray, name: str = "x") -> Tensor:
    """An array written to a file behind some other bytes, as a lazy tensor."""
    path = folder / f"{name}.bin"
    path.write_bytes(b"\0" * 12 + array.tobytes())
    storage = Storage(name, StoredFile(path), 12, array.nbytes)
    return Tensor(View.whole(storage, array.dtype, array.shape))


def same(tensor: Tensor, array: np.ndarray) -> None:
    """The lazy tensor is the array, whole and in ranges of rows."""
    assert tensor.shape == array.shape
    assert tensor.dtype == array.dtype
    assert np.array_equal(tensor.read(), array)
    flat = np.ascontiguousarray(array).reshape(-1, row_length(array.shape))
    count = row_count(array.shape)
    for start in {0, count // 3, count // 2, max(0, count - 1)}:
        for stop in {start, min(count, start + 1), count}:
            assert np.array_equal(tensor.rows(start, stop), flat[start:stop])


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@st.composite
def expressions(draw, depth=4):
    """A shape and a list of operations that work on both numpy arrays and lazy tensors."""
    shape = draw(shapes)
    steps, now = [], shape
    for _ in range(draw(st.integers(0, depth))):
        kind = draw(st.sampled_from(["slice", "transpose", "add", "scale", "astype", "concat", "stack", "split"]))
        axis = draw(st.integers(0, len(now) - 1))
        if kind == "slice":
            start = draw(st.integers(0, now[axis] - 1))
            stop = draw(st.integers(start + 1, now[axis]))
            index = (slice(None),) * axis + (slice(start, stop),)
            steps.append(lambda a, lib, i=index: a[i])
            now = (*now[:axis], stop - start, *now[axis + 1 :])
        elif kind == "transpose":
            order = tuple(draw(st.permutations(range(len(now)))))
            steps.append(lambda a, lib, o=order: a.transpose(o))
            now = tuple(now[o] for o in order)
        elif kind == "add":
            steps.append(lambda a, lib: a + 1.0)
        elif kind == "scale":
            factor = np.arange(1, now[-1] + 1, dtype=np.float32)
            steps.append(lambda a, lib, f=factor: a * f)
        elif kind == "astype":
            steps.append(lambda a, lib: a.astype(np.dtype(np.float32)))
        elif kind == "concat":
            steps.append(lambda a, lib, x=axis: lib["concatenate"]([a, a], x))
            now = (*now[:axis], 2 * now[axis], *now[axis + 1 :])
        elif kind == "stack" and len(now) < 4:
            steps.append(lambda a, lib, x=axis: lib["stack"]([a, a], x))
            now = (*now[:axis], 2, *now[axis:])
        elif kind == "split" and now[axis] % 2 == 0:
            steps.append(lambda a, lib, x=axis: lib["split"](a, 2, x)[1])
            now = (*now[:axis], now[axis] // 2, *now[axis + 1 :])
    return shape, steps


LAZY = {"concatenate": concatenate, "stack": stack, "split": split}
EAGER = {"concatenate": np.concatenate, "stack": np.stack, "split": np.split}


@settings(max_examples=150, deadline=None)
@given(expressions())
def test_any_expression_equals_numpy(tmp_path_factory, case):
    shape, steps = case
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    lazy, eager = stored(tmp_path_factory.mktemp("t"), array), array
    for step in steps:
        try:
            lazy = step(lazy, LAZY)
        except TensorError as error:
            assert "lazily" in str(error)  # said plainly, never a wrong result
            return
        eager = step(eager, EAGER)
    same(lazy, eager)


def test_reads_scattered_boxes_larger_than_one_span(tmp_path):
    array = np.arange(600 * 700, dtype=np.float32).reshape(600, 700)
    tensor = stored(tmp_path, array)
    same(tensor.T, array.T)
    same(tensor[:, 100:650], array[:, 100:650])


def test_vocabulary_of_sanitize(tmp_path):
    array = np.arange(2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4)
    w = stored(tmp_path, array)
    same(w[..., :3, :], array[..., :3, :])
    same(w[1], array[1])
    same(w[:, None], array[:, None])
    same(w.moveaxis(2, 1), np.moveaxis(array, 2, 1))
    same(w.swapaxes(0, 2), array.swapaxes(0, 2))
    same(w.reshape(4, -1), array.reshape(4, -1))
    same(w.reshape(1, 2, 6, 4).squeeze(0), array)
    same(w / 2.0 - 1.0, array / 2.0 - 1.0)
    same(w * stored(tmp_path, array[:, :1], "y"), array * array[:, :1])
    assert w.sources == ("x",)


def test_adding_a_number_keeps_bfloat16(tmp_path):
    import ml_dtypes

    array = np.array([0.125, -0.5], ml_dtypes.bfloat16)
    same(stored(tmp_path, array) + 1.0, array + np.array(1.0, ml_dtypes.bfloat16))


def test_a_cast_that_overflows_says_which_tensor(tmp_path):
    tensor = stored(tmp_path, np.array([1e6, 1.0], np.float32), "big").astype("fp16")
    with pytest.raises(TensorError, match="big: casting float32 to float16 overflows"):
        tensor.read()


def test_rows_of_several_tensors_through_a_function(tmp_path):
    a, b = np.ones((3, 4), np.float32), np.full((3, 1), 2, np.float32)
    tensor = map_rows(np.multiply, [stored(tmp_path, a, "a"), stored(tmp_path, b, "b")], 4, a.dtype)
    same(tensor, a * b)
    same(tensor[1:], (a * b)[1:])
    assert tensor.sources == ("a", "b")


def test_a_file_that_ends_early_is_an_error(tmp_path):
    array = np.arange(8, dtype=np.float32)
    tensor = stored(tmp_path, array)
    path = tmp_path / "x.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SourceError, match="ends at byte"):
        tensor.read()


@pytest.mark.parametrize(
    "wrong",
    [lambda w: w[::2], lambda w: w[7], lambda w: w.transpose(0, 0), lambda w: w.reshape(5), lambda w: split(w, 4)],
)
def test_what_cannot_be_lazy_is_refused(tmp_path, wrong):
    with pytest.raises(TensorError):
        wrong(stored(tmp_path, np.zeros((3, 4), np.float32)))
