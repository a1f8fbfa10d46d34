import pytest

pytest.register_assert_rewrite("convx.testing")
