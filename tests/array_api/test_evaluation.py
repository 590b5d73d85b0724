"""Is a kept plan used for the calls that mean the same, and for no others?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc.array_api as xp
from graphc.array_api import evaluation


@pytest.fixture(autouse=True)
def no_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_PLANS", {})


def plans() -> int:
    return len(evaluation._PLANS)


def test_a_plan_serves_all_values_of_its_types() -> None:
    x = xp.asarray([1.0, 2.0])
    for y in ([3.0, 4.0], [np.nan, -0.0]):
        np.testing.assert_array_equal(np.asarray(x + xp.asarray(y)), np.add([1.0, 2.0], y))
    assert plans() == 1
    for other in (np.array(1.0), np.ones(2, "float32"), np.ones((3, 1))):  # rank, dtype, shape
        assert (x + xp.asarray(other)).dtype == xp.float64
    assert plans() == 4


@pytest.mark.parametrize(
    ("first", "second"), [(0.0, -0.0), (1.0, 2.0), (np.inf, np.nan), (1, 1.0)], ids=str
)
def test_numbers_have_plans_of_their_own(first: Any, second: Any) -> None:
    x = xp.asarray([1.0, -1.0])
    for number in (first, second, first):
        np.testing.assert_array_equal(
            np.asarray(xp.copysign(x, number)), np.copysign([1.0, -1.0], number)
        )
    assert plans() == 2


def test_true_is_not_one_and_a_list_no_tuple() -> None:
    x = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert xp.full((2,), 1).dtype == xp.int64 and xp.full((2,), True).dtype == xp.bool
    assert xp.sum(x, axis=0).shape == xp.sum(x, axis=(0,)).shape == (2,)
    for key in (slice(0, 1), slice(None, 1), slice(0, 1, 1), (slice(0, 1), ...), 0, -2):
        np.testing.assert_array_equal(np.asarray(x[key]), np.asarray(x)[key])
    assert xp.squeeze(xp.zeros((1, 1)), axis=0).shape == (1,)


def test_values_that_no_key_describes_are_planned_anew() -> None:
    x = xp.asarray([1.0, 2.0])
    for axis in (np.int64(0), np.int8(-1)):
        assert float(xp.sum(x, axis=axis)) == 3.0


def test_results_never_share_what_a_plan_holds() -> None:
    for make in (
        lambda: xp.zeros(()),
        lambda: xp.full((3,), 2.0),
        lambda: xp.eye(3),
        lambda: xp.linspace(0, 1, 3),
        lambda: xp.asarray([1.0, 2.0, 4.0]) - 1.0,
    ):
        expected = np.asarray(make()).copy()
        view = np.asarray(make())
        if view.flags.writeable:
            view[...] = 7.0
        array = make()
        array[...] = 8.0
        np.testing.assert_array_equal(np.asarray(make()), expected)


def test_the_number_of_plans_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_MOST_PLANS", 4)
    x = xp.arange(9)
    assert [int(x[position]) for position in range(9)] == list(range(9))
    assert plans() <= 4
    large = xp.full((100,), 2.0) + 1.0
    assert large.shape == (100,)
    for plan in evaluation._PLANS.values():
        assert all(constant.size <= 64 for constant in plan.constants)


def test_errors_are_raised_every_time() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="do not broadcast"):
            xp.zeros((2,)) + xp.zeros((3,))
        with pytest.raises(ZeroDivisionError):
            xp.asarray([1, 2]) // 0
    assert plans() <= 3
