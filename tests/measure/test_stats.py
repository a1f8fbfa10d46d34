"""Means, errors, paired tests and Pareto marks, on numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from convx.measure.stats import mean_error, paired, pareto, share_error, sign_test, trimmed_mean


def test_mean_and_its_error():
    assert mean_error([1.0, 2.0, 3.0]) == (2.0, pytest.approx(1 / 3**0.5))
    assert mean_error([5.0]) == (5.0, 0.0)


def test_trimmed_mean_leaves_out_a_tenth_at_each_end():
    assert trimmed_mean([1000, *range(1, 9), -1000]) == 4.5
    assert trimmed_mean([1, 2, 6]) == 3


def test_error_of_a_share():
    assert share_error(0.5, 100) == pytest.approx(0.05)
    assert share_error(1.0, 100) == 0


def test_a_paired_difference_shows_what_two_separate_errors_hide():
    easy_and_hard = [1.0, 5.0, 9.0, 2.0]
    a_little_more = [1.1, 5.1, 9.2, 2.1]
    found = paired(easy_and_hard, a_little_more)
    assert found.mean == pytest.approx(0.125)
    assert found.z == pytest.approx(5.0)
    assert found.p < 1e-5
    assert (found.b_lower, found.sign_p) == (0, 0.125)
    assert mean_error(easy_and_hard)[1] > 10 * found.mean


def test_no_difference_has_no_z():
    found = paired([1.0, 2.0], [1.0, 2.0])
    assert (found.mean, found.z, found.p, found.sign_p) == (0, None, None, 1.0)


@pytest.mark.parametrize(("lower", "higher", "p"), [(5, 5, 1.0), (0, 10, 2 / 1024), (1, 9, 22 / 1024)])
def test_sign_test_is_the_exact_binomial(lower, higher, p):
    assert sign_test(lower, higher) == pytest.approx(p)


def test_pareto_marks_what_nothing_beats():
    small, good, both, worse, twin = (1, 9), (9, 1), (5, 5), (6, 6), (5, 5)
    assert pareto([small, good, both, worse, twin]) == [True, True, True, False, True]
