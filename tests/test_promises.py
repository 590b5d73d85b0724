"""Is everything there that users' programs and adapters are written against?

Names and the arguments that they take; what they mean is tested beside each of them.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import graphc as gx

NAMES = """
    symbol scalar vector matrix constant exp sum where einsum reshape
    cond while_loop scan call check random Type
    grad value_and_grad vjp jvp jacobian hessian hvp vmap custom_derivative
    stop_gradient checkpoint check_grad check_op
    compile jit evaluate emit Options save load explain
    show to_networkx from_sympy to_sympy nn optim GraphError CompileError
"""
NOT_YET = "onnx to_stablehlo"

SIGNATURES = {
    "symbol": "name shape dtype facts",
    "grad": "cost wrt",
    "value_and_grad": "cost wrt",
    "vjp": "outputs inputs cotangents",
    "jvp": "outputs inputs tangents",
    "hvp": "cost wrt vector",
    "vmap": "function in_axes",
    "check_grad": "cost wrt point",
    "compile": "inputs outputs target options donate",
    "emit": "inputs outputs target",
    "show": "x format path",
    "Options": "threads math deterministic opt_level cache debug",
}
OF_A_NODE = "shape dtype op args attrs origin digest T __array_namespace__"
OF_A_FUNCTION = """
    graph kernels report llvm_ir assembly cuda_source address signature explain_nan verify
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_a_promised_name_exists(name: str) -> None:
    assert getattr(gx, name) is not None and name in dir(gx)


@pytest.mark.parametrize("name", NOT_YET.split())
@pytest.mark.xfail(raises=AttributeError, reason="promised, and not made yet")
def test_a_name_that_is_promised_for_later(name: str) -> None:
    assert getattr(gx, name) is not None


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_have_their_promised_names(name: str) -> None:
    parameters = inspect.signature(getattr(gx, name)).parameters
    assert set(SIGNATURES[name].split()) <= set(parameters), list(parameters)


@pytest.fixture(scope="module")
def function() -> Any:
    x = gx.vector("x", "n")
    return gx.compile([x], gx.exp(x) * 2, options=gx.Options(cache=False))


@pytest.mark.parametrize("name", OF_A_NODE.split())
def test_a_node_has(name: str) -> None:
    assert getattr(gx.matrix("x", (2, 3)) * 2, name) is not None


@pytest.mark.parametrize("name", OF_A_FUNCTION.split())
def test_a_function_has(name: str, function: Any) -> None:
    assert getattr(function, name) is not None and name in dir(function)


def test_a_function_is_called_with_arrays_keywords_and_out(function: Any) -> None:
    out = np.empty(3)
    assert function(np.zeros(3), out=out) is out and (out == 2).all()
    assert (function(x=np.zeros(3)) == 2).all()


@pytest.mark.parametrize("target", ["c", "cuda", "llvm"])
def test_there_is_source_for(target: str) -> None:
    x = gx.vector("x", 3)
    assert len(str(gx.emit([x], x * 2, target=target))) > 100


@pytest.mark.parametrize("format", ["text", "dot", "svg", "latex", "html"])
def test_a_graph_is_shown_as(format: str) -> None:
    assert len(gx.show(gx.vector("x", 3) * 2, format=format)) > 3


@pytest.mark.parametrize("command", ["demo", "show", "compile", "bench", "doctor"])
def test_there_is_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from graphc.cli import main

    with pytest.raises(SystemExit):
        main(["--help"])
    assert command in capsys.readouterr().out
