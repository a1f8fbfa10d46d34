"""The conformance kit for plugin authors, and tiny real checkpoints to test on.

    from convx.testing import ArchitectureSuite, FormatSuite

    class TestMine(ArchitectureSuite):
        plugin = my_module

        def make_source(self, folder):
            return make_my_tiny_checkpoint(folder)

Each test of a suite names the rule that a plugin breaks. Put
`pytest.register_assert_rewrite("convx.testing")` into `conftest.py` for readable failures.
"""

from __future__ import annotations

from convx.testing.architecture import ArchitectureSuite
from convx.testing.formats import FormatSuite

__all__ = ["ArchitectureSuite", "FormatSuite"]
