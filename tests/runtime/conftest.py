"""What do the tests of calls share?  Functions of programs written by hand, and a stand-in for the
driver of a GPU, where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.call_programs import (
    KINDS,
    MULTIPLY_ADD,
    MULTIPLY_ADD_SPEC,
    MULTIPLY_ADD_STRIDED,
    Subject,
    make,
)

if TYPE_CHECKING:
    from tests.runtime import fake_cuda


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda.FakeDriver]:
    pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
    from tests.runtime import fake_cuda

    driver = fake_cuda.put_in_place(monkeypatch)
    yield driver
    assert not driver.contexts  # every push of a context has its pop


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def f(kind: str) -> Any:
    return make(Subject(MULTIPLY_ADD_SPEC, MULTIPLY_ADD, MULTIPLY_ADD_STRIDED), kind)
