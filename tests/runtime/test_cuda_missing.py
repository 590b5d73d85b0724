"""Does `target="cuda"` say what is missing, and leave nothing half-done?"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import graphc as gx
from graphc.runtime.cuda import support as cuda


def compiled() -> Any:
    x = gx.symbol("x", (3,), "float32")
    return gx.compile([x], x + 1, target="cuda")


def test_the_error_says_what_is_missing_and_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    with pytest.raises(gx.CompileError):
        compiled()  # whatever this imports is there from now on
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(gx.CompileError) as error:
        compiled()
    lines = str(error.value).splitlines()
    assert "libcuda.so.1" in lines[1] and "graphc-compiler[cuda]" in lines[2]
    assert "gx.emit" in lines[-1]


@pytest.mark.parametrize(("status", "count", "said"), [(0, 0, True), (100, 1, True), (0, 1, False)])
def test_a_driver_without_a_device_is_told(
    monkeypatch: pytest.MonkeyPatch, status: int, count: int, said: bool
) -> None:
    def counted(address: Any) -> int:
        address._obj.value = count
        return 0

    driver = SimpleNamespace(cuInit=lambda flags: status, cuDeviceGetCount=counted)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(sys, "platform", "linux")
    assert ("the NVIDIA driver finds no GPU" in cuda.missing()) == said


def test_other_systems_have_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cuda.missing() == ["there is no CUDA driver for darwin"]
