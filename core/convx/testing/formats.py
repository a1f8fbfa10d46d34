"""What every format plugin must do, tested on random and awkward tiles."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from convx.dtypes import BF16, F16, F32, DType
from convx.formats import Format
from convx.plugins import Hooks
from convx.testing.hooks import check_hooks

TYPES: tuple[DType, ...] = (BF16, F16, F32)


class FormatSuite:
    """Subclass it as `TestSomething`; set `plugin`, and the relative error that Gaussian weights may have."""

    plugin: ClassVar[object]
    relative_error: ClassVar[float]
    """Bound on the root mean square of decode(encode(x)) - x, divided by that of x, for Gaussian x."""

    @property
    def format(self) -> Format:
        found = Hooks([("mine", self.plugin)]).format()
        assert found is not None, "the plugin gives no format: implement convx_format"
        return found

    def _tile(self, dtype: DType = BF16, rows: int = 6, groups: int = 4) -> np.ndarray[Any, Any]:
        columns = groups * max(self.format.group_sizes)
        values = np.random.default_rng(7).standard_normal((rows, columns)).astype(np.float32) * 0.05
        return values.astype(dtype)

    def test_hooks_are_well_formed(self) -> None:
        check_hooks(self.plugin)

    def test_declared_parts_are_those_that_are_encoded(self) -> None:
        for dtype in TYPES:
            tile = self._tile(dtype)
            declared = self.format.parts(tile.shape[1], dtype)
            encoded = self.format.encode(tile)
            assert len(declared) == len(encoded)
            for part, array in zip(declared, encoded, strict=True):
                assert (array.dtype, array.shape) == (part.dtype, (len(tile), part.columns)), part.suffix

    def test_decoded_values_are_near(self) -> None:
        tile = self._tile(rows=64)
        decoded = self.format.decode(self.format.encode(tile))
        assert decoded.dtype == np.float32 and decoded.shape == tile.shape
        exact = tile.astype(np.float32)
        error = np.sqrt(np.mean((decoded - exact) ** 2) / np.mean(exact**2))
        assert error <= self.relative_error, f"relative error {error:.4f}"

    def test_rows_stand_alone(self) -> None:
        tile = self._tile()
        whole = self.format.encode(tile)
        for start, stop in ((0, 1), (1, 4), (4, 6)):
            for part, rows in zip(whole, self.format.encode(tile[start:stop]), strict=True):
                assert part[start:stop].tobytes() == rows.tobytes()

    def test_equal_tiles_give_equal_bytes(self) -> None:
        first, second = (self.format.encode(self._tile()) for _ in range(2))
        assert [p.tobytes() for p in first] == [p.tobytes() for p in second]

    def test_zeros_stay_zeros(self) -> None:
        tile = np.zeros_like(self._tile())
        assert not self.format.decode(self.format.encode(tile)).any()

    def test_every_group_size_is_stored_as_declared(self) -> None:
        for group_size in self.format.group_sizes:
            form = self.format.regrouped(group_size)
            tile = self._tile()
            stored = [p.nbytes for p in form.encode(tile)]
            assert stored == [p.columns * p.dtype.itemsize * len(tile) for p in form.parts(tile.shape[1], tile.dtype)]

    def test_an_axis_that_does_not_divide_is_refused_with_a_reason(self) -> None:
        assert self.format.refusal((4, self.format.group_size + 1))
        assert self.format.refusal((4, self.format.group_size)) is None

    def test_config_entry_has_the_loader_words(self) -> None:
        entry = self.format.config_entry()
        assert set(entry) == {"group_size", "bits", "mode"}
