"""What every architecture plugin must do, tested on a tiny checkpoint that its author makes."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from convx.card import Facts, render
from convx.checkpoint import read_record
from convx.convert import convert
from convx.options import Options
from convx.prepare import Prepared
from convx.roles import Placement
from convx.session import Session, open_session
from convx.source import open_source
from convx.testing.hooks import check_hooks


class ArchitectureSuite:
    """Subclass it as `TestSomething`, set `plugin`, and make a source of one's own in `make_source`."""

    plugin: ClassVar[object]
    options: ClassVar[Options] = Options()
    formats: ClassVar[tuple[str, ...]] = ("affine4",)

    def make_source(self, folder: Path) -> Path:
        """Write a small source checkpoint into `folder` and give the folder."""
        raise NotImplementedError

    def _open(self, tmp_path: Path, *formats: str) -> Session:
        source = self.make_source(tmp_path / "source")
        return open_session(source, arch=self.plugin, formats=formats or self.formats, options=self.options)

    def _prepared(self, tmp_path: Path) -> Prepared:
        return self._open(tmp_path).prepared

    def test_hooks_are_well_formed(self) -> None:
        check_hooks(self.plugin)

    def test_detects_its_own_config_and_no_other(self, tmp_path: Path) -> None:
        prepared = self._prepared(tmp_path)
        confidence = prepared.hooks.detect(prepared.source.config)
        assert confidence is not None and 0 < confidence <= 1
        assert prepared.hooks.detect({"model_type": "of-no-one"}) is None

    def test_sanitize_config_leaves_its_argument_alone_and_is_idempotent(self, tmp_path: Path) -> None:
        prepared = self._prepared(tmp_path)
        given = copy.deepcopy(prepared.source.config)
        once = prepared.hooks.sanitize_config(given, self.options)
        assert given == prepared.source.config, "convx_sanitize_config changed its argument"
        assert prepared.hooks.sanitize_config(copy.deepcopy(once), self.options) == once

    def test_every_source_tensor_is_used_once_or_explained(self, tmp_path: Path) -> None:
        prepared = self._prepared(tmp_path)
        elements = Counter[str]()
        for tensor in prepared.weights.values():
            if len(tensor.sources) == 1:
                elements[tensor.sources[0]] += tensor.size
        for name, count in elements.items():
            stored = prepared.source.tensors[name]
            assert count <= int(np.prod(stored.shape)), f"{name} is used more than once"
        dropped = {name for name, _ in prepared.dropped}
        used = {name for tensor in prepared.weights.values() for name in tensor.sources}
        assert used | dropped == set(prepared.source.tensors)

    def test_declared_shapes_and_types_are_those_that_are_read(self, tmp_path: Path) -> None:
        for name, tensor in self._prepared(tmp_path).weights.items():
            array = tensor.read()
            assert (array.shape, array.dtype) == (tensor.shape, tensor.dtype), name

    def test_sanitize_weights_is_idempotent(self, tmp_path: Path) -> None:
        prepared = self._prepared(tmp_path)
        again = prepared.hooks.sanitize_weights(dict(prepared.weights), prepared.config, self.options)
        assert set(again) == set(prepared.weights)
        for name, tensor in again.items():
            assert tensor.read().tobytes() == prepared.weights[name].read().tobytes(), name

    def test_every_tensor_has_a_role(self, tmp_path: Path) -> None:
        prepared = self._prepared(tmp_path)
        for name in prepared.weights:
            place = prepared.hooks.tensor_role(name, prepared.config)
            assert isinstance(place, Placement), name
            assert place.layer is None or place.layers is None or 0 <= place.layer < place.layers, name

    def test_output_is_what_was_planned_whatever_the_number_of_threads(self, tmp_path: Path) -> None:
        contents = []
        for jobs in (1, 3):
            out = tmp_path / f"jobs-{jobs}" / "out"
            session = self._open(tmp_path / f"jobs-{jobs}")
            convert(session, out, command="convx source out", jobs=jobs)
            assert open_source(out).nbytes == session.plans[0].total_bytes
            contents.append({p.name: p.read_bytes() for p in out.iterdir() if p.suffix != ".md"})
        assert contents[0] == contents[1]

    def test_the_card_renders(self, tmp_path: Path) -> None:
        session = self._open(tmp_path)
        out = tmp_path / "out"
        convert(session, out)
        text = render(Facts(read_record(out)), session.prepared.hooks)
        assert text.startswith("---\n")
        assert "Undefined" not in text
