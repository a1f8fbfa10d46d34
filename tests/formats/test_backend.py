"""The choice between compiled loops and mlx."""

from __future__ import annotations

import warnings

import pytest

from convx import backend
from convx.errors import UsageError


@pytest.fixture
def _no_numba(monkeypatch):
    monkeypatch.setattr(backend, "has_numba", lambda: False)
    backend._warn_no_numba.cache_clear()
    yield
    backend._warn_no_numba.cache_clear()


@pytest.mark.parametrize(
    ("choice", "gpu", "loops"),
    [("", False, True), ("", True, False), ("numba", True, True), ("mlx", False, False)],
)
def test_choice(monkeypatch, choice, gpu, loops):
    monkeypatch.setenv("CONVX_BACKEND", choice)
    monkeypatch.setattr(backend, "_mlx_has_gpu", lambda: gpu)
    monkeypatch.setattr(backend, "has_numba", lambda: True)
    assert backend.uses_numba() is loops


def test_unknown_choice(monkeypatch):
    monkeypatch.setenv("CONVX_BACKEND", "cuda")
    with pytest.raises(UsageError, match="CONVX_BACKEND=cuda"):
        backend.uses_numba()


@pytest.mark.usefixtures("_no_numba")
def test_without_numba_one_warning(monkeypatch):
    monkeypatch.setenv("CONVX_BACKEND", "numba")
    with pytest.warns(RuntimeWarning, match="numba is not installed"):
        assert backend.uses_numba() is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend.uses_numba() is False


def test_no_folder_for_the_cache(monkeypatch):
    """Where numba finds no writable folder it refuses to cache; the loop is compiled all the same."""
    numba = pytest.importorskip("numba")
    import numpy as np

    real, asked = numba.njit, []

    def njit(*args, cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function 'fill': no locator available")
        return real(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)

    @backend.compiled(numba.types.void(numba.types.Array(numba.types.int64, 1, "C")))
    def fill(out):
        for i in range(out.size):
            out[i] = 3

    out = np.zeros(4, np.int64)
    fill(out)
    assert out.tolist() == [3] * 4
    assert asked[:2] == [True, False]
