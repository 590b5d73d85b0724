"""How is an equation solved within a graph, and differentiated?  `root`, `fixed_point`, `minimize`.

The search is a loop of the graph, so it runs natively within the one call. It is not differentiated
itself: by the implicit function theorem the solution x of f(x, a) = 0 moves as
dx = -(df/dx)^-1 (df/da) da, whatever way it was found. That is the rule of a `custom_derivative`,
which is given the solution, so derivatives of every order and mode follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.autodiff.chain import is_real
from graphc.autodiff.forward import jvp
from graphc.autodiff.higher import jacobian
from graphc.autodiff.reverse import grad
from graphc.dims import Extent, product
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.arithmetic import like, maximum
from graphc.ops.contract import matmul
from graphc.ops.creation import iota, zeros
from graphc.ops.custom import custom_derivative
from graphc.ops.diagonal import eye
from graphc.ops.iteration import while_loop
from graphc.ops.joining import concatenate, piece
from graphc.ops.movement import ravel, reshape
from graphc.ops.operands import as_node, cast, constant, describe
from graphc.ops.reduce import max_, sum_
from graphc.ops.special import where
from graphc.ops.spectra import eigh
from graphc.ops.systems import solve
from graphc.tree import flatten
from graphc.types import TensorType

__all__ = ["fixed_point", "minimize", "root"]

Function = Callable[..., Any]


def root(
    function: Function,
    guess: Any,
    *args: Any,
    tolerance: float | None = None,
    max_steps: int = 50,
) -> Any:
    """x with `function(x, *args)` = 0, by Newton's method from `guess`.

    x may be a nested container of float arrays of one dtype, and `function` gives as many numbers
    as x has. The search ends when no element of a step is larger than `tolerance` times the largest
    element of x, or 1 (by default the square root of the dtype's precision: that step reaches all
    of it, for errors are squared), or after `max_steps`: then x is NaN. A singular Jacobian is an
    error of the call, `LinAlgError`.

    The derivative by `args` is that of the solution, in every mode and order; that by `guess` is
    zero. What `function` uses from outside cannot be differentiated by: give it as one of `args`.
    """
    problem = _Problem("root", function, guess)

    def step(state: Sequence[Node], given: Sequence[Any]) -> tuple[list[Node], Node]:
        (x,) = state
        value = problem.value(x, given)
        change = solve(jacobian(value, x, unused="zero"), value)
        return [x - change], _size(change, x)

    limit = problem.precision**0.5 if tolerance is None else tolerance
    search = problem.search([problem.start], step, limit, max_steps)
    return problem.solution(search, problem.value, args)


def fixed_point(
    function: Function,
    guess: Any,
    *args: Any,
    tolerance: float | None = None,
    max_steps: int = 500,
    memory: int = 5,
) -> Any:
    """x with `function(x, *args)` = x, by iteration from `guess` with Anderson's acceleration.

    Each step combines the last `memory` values of the function such that their distances from
    their arguments cancel as far as they can (Anderson, J. ACM 12, 1965; Walker & Ni, SIAM J.
    Numer. Anal. 49, 2011); 1 is plain iteration. The search ends when no element of the distance is
    larger than `tolerance` (by default 16 units of the dtype's precision) times the largest element
    of x, or 1. Everything else is as for `root`; the Jacobian is computed for derivatives only.
    """
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise GraphError(f"fixed_point: memory is an integer of at least 1, got {memory!r}")
    problem = _Problem("fixed_point", function, guess)

    def distance(x: Node, given: Sequence[Any]) -> Node:
        return problem.value(x, given) - x

    def step(state: Sequence[Node], given: Sequence[Any]) -> tuple[list[Node], Node]:
        x, images, distances, count = state
        apart = distance(x, given)
        row = iota((memory, 1)) == count % memory
        images, distances = where(row, x + apart, images), where(row, apart, distances)
        weights = _cancelling(distances, iota((memory,)) <= count)
        new = matmul(weights, images)
        return [new, images, distances, count + 1], _size(apart, x)

    none = zeros((memory, problem.size), problem.dtype)
    limit = 16 * problem.precision if tolerance is None else tolerance
    search = problem.search([problem.start, none, none, constant(0)], step, limit, max_steps)
    return problem.solution(search, distance, args)


def minimize(
    function: Function,
    guess: Any,
    *args: Any,
    tolerance: float | None = None,
    max_steps: int = 200,
) -> Any:
    """x at which `function(x, *args)`, one smooth number, is least nearby, by Newton's method.

    Steps go down: along each eigenvector of the Hessian by the slope over the size of the curvature
    (Nocedal & Wright, Numerical Optimization, 2nd edition, section 3.4), and shorter where that
    does not lead below. The search ends as that of `root` does; it keeps the Hessian, so x should
    have no more than some hundred elements.

    The derivative by `args` is that of the minimum, in every mode and order: the gradient is 0
    there, whatever way it was found. Where the curvature is 0 there is none, and `LinAlgError` is
    raised. Everything else is as for `root`.

    >>> import graphc as gx
    >>> a = gx.scalar("a")
    >>> x = gx.minimize(lambda x, a: (x - a) ** 2 + x**4, gx.constant(1.0), a)
    >>> round(float(gx.evaluate(gx.grad(x, a), {a: 6.0})), 6)  # 2 / (2 + 12 x**2)
    0.086469
    """
    problem = _Problem("minimize", function, guess)

    def slope(x: Node, given: Sequence[Any]) -> Node:
        return grad(problem.cost(x, given), x, unused="zero")

    def step(state: Sequence[Node], given: Sequence[Any]) -> tuple[list[Node], Node]:
        x, damping = state
        here = problem.cost(x, given)
        down = grad(here, x, unused="zero")
        curvatures, ways = eigh(jacobian(down, x, unused="zero"))
        steepest = max_(abs(curvatures))
        least = problem.precision * where(steepest == 0, like(steepest, 1), steepest)
        divisor = maximum(abs(curvatures), least) + damping * steepest
        change = matmul(ways, matmul(ways.T, down) / divisor)
        there = problem.cost(x - change, given)
        noise = 8 * problem.precision * abs(here)
        lower = there <= here + noise
        eased = where(damping < 1e-4, like(damping, 0), damping / 16)
        held = where(lower, x - change, x)
        moved = where(lower, _size(change, x), like(here, float("inf")))
        return [held, where(lower, eased, maximum(8 * damping, like(damping, 1e-2)))], moved

    limit = problem.precision**0.5 if tolerance is None else tolerance
    start = [problem.start, constant(0, problem.dtype)]
    search = problem.search(start, step, limit, max_steps)
    return problem.solution(search, slope, args)


def _size(change: Node, x: Node) -> Node:
    """The largest element of a change, beside that of x or 1."""
    return max_(abs(change)) / maximum(max_(abs(x)), like(max_(x), 1))


def _cancelling(distances: Node, known: Node) -> Node:
    """Weights with the sum 1 for which the weighted distances are shortest; 0 for unknown ones."""
    count = distances.shape[0]
    products = matmul(distances, distances.T)
    scale = max_(products)
    ridge = 16 * float(np.finfo(distances.dtype).eps) * where(scale == 0, like(scale, 1), scale)
    both = known[:, None] & known[None, :]
    unit = eye(count, dtype=distances.dtype)
    matrix = where(both, products + ridge * unit, unit)
    weights = solve(matrix, cast(known, distances.dtype))
    return weights / sum_(weights)


class _Problem:
    """A function of containers as one of a vector, and where its solution is looked for."""

    def __init__(self, name: str, function: Function, guess: Any) -> None:
        self.name, self.function = name, function
        if not callable(function):
            raise GraphError(
                f"{name} takes a function first, then a guess, got {shortened(repr(function))}"
            )
        leaves, self.structure = flatten(guess)
        nodes = [as_node(leaf) for leaf in leaves]
        if not nodes or any(not dtypes.is_float(node.dtype) for node in nodes):
            raise GraphError(f"{name}: the guess is made of float arrays\n" + describe(nodes))
        if any(node.dtype != nodes[0].dtype for node in nodes) or dtypes.is_half(nodes[0].dtype):
            raise GraphError(f"{name}: the guess is float32, or float64\n" + describe(nodes))
        self.dtype = nodes[0].dtype
        self.shapes = [node.shape for node in nodes]
        self.start = concatenate([ravel(node) for node in nodes])
        self.size = self.start.shape[0]
        if isinstance(self.size, int) and self.size == 0:
            raise GraphError(
                f"{name}: the guess has no elements, so there is nothing to look for\n"
                + describe(nodes)
            )
        self.precision = float(np.finfo(self.dtype).eps)

    def parts(self, x: Node) -> Any:
        """The containers that a vector stands for."""
        found: list[Node] = []
        at: Extent = 0
        for shape in self.shapes:
            found.append(reshape(piece(x, 0, at, product(shape)), shape))
            at = at + product(shape)
        return self.structure.unflatten(found)

    def value(self, x: Node, given: Sequence[Any]) -> Node:
        """The function at a vector, as a vector."""
        leaves, _ = flatten(self.function(self.parts(x), *given))
        joined = concatenate([ravel(cast(as_node(leaf), self.dtype)) for leaf in leaves])
        if joined.shape != x.shape:
            raise GraphError(
                f"{self.name}: the function of {self.size} numbers gives {joined.shape[0]}\n"
                + describe([joined])
                + "\nThere must be one equation for each unknown."
            )
        return joined

    def cost(self, x: Node, given: Sequence[Any]) -> Node:
        """The function at a vector, as one number."""
        found = as_node(self.function(self.parts(x), *given))
        if not isinstance(found.type, TensorType) or found.size != 1:
            raise GraphError(
                f"{self.name}: the function gives one number, got {found.type}\n"
                + describe([found])
                + "\nTake a sum or a mean."
            )
        return cast(reshape(found, ()), self.dtype)

    def search(
        self,
        first: Sequence[Node],
        step: Callable[..., tuple[list[Node], Node]],
        limit: float,
        most: int,
    ) -> Callable[..., Node]:
        """The loop: `step(state, given)` gives the next state, x first, and how far it moved."""
        if not limit >= 0 or isinstance(most, bool) or not isinstance(most, int) or most < 1:
            shown = shortened(repr((limit, most)))
            raise GraphError(f"{self.name}: tolerance >= 0 and max_steps >= 1, got {shown}")

        def run(start: Node, *given: Any) -> Node:
            def body(state: Any) -> Any:
                held, _, count = state
                held, moved = step(held, given)
                return held, moved, count + 1

            def goes_on(state: Any) -> Node:
                _, moved, count = state
                return (moved > limit) & (count < most)

            unmoved = constant(float("inf"), self.dtype)
            held, moved, _ = while_loop(
                goes_on, body, ([start, *first[1:]], unmoved, constant(0))
            )
            return where(moved <= limit, held[0], like(held[0], nan))

        return run

    def solution(
        self, search: Callable[..., Node], residual: Callable[..., Node], args: Sequence[Any]
    ) -> Any:
        """What the search finds, with the derivative of the solution."""

        def moved(inputs: Sequence[Any], x: Node, tangents: Sequence[Any]) -> Node:
            (_, *given), (_, *moves) = inputs, tangents
            leaves, _ = flatten(given)
            ways, _ = flatten(moves)  # those that do not move have none
            real = [leaf for leaf in leaves if is_real(leaf.type)]
            if not ways:
                return like(x, 0)
            value = residual(x, given)
            slope = jacobian(value, x, unused="zero")
            return -solve(slope, jvp(value, real, ways, unused="zero"))

        found = custom_derivative(search, jvp=moved)(self.start, *args)
        return self.parts(found)
