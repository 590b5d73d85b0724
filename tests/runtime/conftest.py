"""What do the tests of calls on a GPU share?  A stand-in for the driver, where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.runtime import fake_cuda


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda.FakeDriver]:
    pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
    from tests.runtime import fake_cuda

    driver = fake_cuda.put_in_place(monkeypatch)
    yield driver
    assert not driver.contexts  # every push of a context has its pop
