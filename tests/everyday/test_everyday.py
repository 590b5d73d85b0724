"""Do the functions that NumPy's users write every day give what NumPy gives, and have gradients?

Each is an ordinary function over NumPy, called plain and through `gx.jit`, at two sets of sizes.
By default: every function in float64, and the gradients of a third of the smooth ones. The others,
and float32, are slow.
"""

from __future__ import annotations

import importlib

import pytest

import graphc as gx
from tests.everyday.case import CASES, FIRST, SECOND, Case
from tests.everyday.running import assert_same, gradient, plain

for _subject in (
    "descriptive",
    "distances",
    "finance",
    "geometry",
    "images",
    "models",
    "numerics",
    "physics",
    "signals",
):
    importlib.import_module(f"tests.everyday.{_subject}")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

def _marks(case: Case, slow: bool) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] * (slow or case.slow)


def _parameters(cases: list[Case], slow: bool = False) -> list[object]:
    return [pytest.param(case, id=case.name, marks=_marks(case, slow)) for case in cases]


SMOOTH = [case for case in CASES if case.smooth]
THIRD = SMOOTH[::3]
OTHERS = [case for case in SMOOTH if case not in THIRD]


def test_there_are_enough() -> None:
    assert len(CASES) >= 300
    assert len({case.name for case in CASES}) == len(CASES)


def _check_values(case: Case, dtype: str) -> None:
    function = gx.jit(case.function)
    for sizes in (FIRST, SECOND):
        arguments = case.arguments(sizes, dtype)
        assert_same(case, function(*arguments), plain(case, arguments), dtype)
    # A second trace is made where Python needs a number, as `len` does; never a third.
    assert len(function.traces) <= 2 or "could not be called" in function.why(), function.why()


@pytest.mark.parametrize("case", _parameters(CASES))
def test_values(case: Case) -> None:
    _check_values(case, "float64")


@pytest.mark.parametrize("case", _parameters(CASES, slow=True))
def test_values_in_single_precision(case: Case) -> None:
    _check_values(case, "float32")


@pytest.mark.parametrize("case", [*_parameters(THIRD), *_parameters(OTHERS, slow=True)])
def test_gradient(case: Case) -> None:
    check = gradient(case)
    assert check.ok, check
