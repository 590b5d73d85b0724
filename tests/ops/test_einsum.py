"""Does einsum mean what NumPy's does, in whatever order it multiplies, and is that order good?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx

QUICK = gx.Options(cache=False, threads=1)
RANDOM = np.random.default_rng(9)
SIZES = dict(zip("abcdef", (2, 3, 1, 4, 2, 3), strict=True))


@st.composite
def calls(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts for one to four operands, with repeated labels, ellipses and extents of 1."""
    terms, shapes, every = [], [], ""
    dots = [2, 1, 3][: draw(st.integers(0, 2))]
    for _ in range(draw(st.integers(1, 4))):
        labels = draw(st.text("abcdef", min_size=0, max_size=3))
        shape = [SIZES[label] for label in labels]
        for place, label in enumerate(labels):
            if labels.count(label) == 1 and draw(st.integers(0, 5)) == 0:
                shape[place] = 1
        if dots and draw(st.booleans()):
            kept = dots[draw(st.integers(0, len(dots))) :]
            labels, shape = "..." + labels, [*kept, *shape]
        terms.append(labels)
        shapes.append(tuple(shape))
        every += labels.replace(".", "")
    text = ",".join(terms)
    if draw(st.booleans()):
        chosen = draw(st.permutations(sorted(set(every))))
        chosen = chosen[: draw(st.integers(0, len(chosen)))]
        text += "->" + ("..." if "..." in text else "") + "".join(chosen)
    return text, shapes


@settings(max_examples=60, deadline=None, derandomize=True)
@given(calls(), st.sampled_from((True, False, "greedy")))
def test_against_numpy(call: tuple[str, list[tuple[int, ...]]], optimize: Any) -> None:
    text, shapes = call
    arrays = [RANDOM.integers(-3, 4, shape).astype("float64") for shape in shapes]
    symbols = [gx.symbol(f"x{i}", shape) for i, shape in enumerate(shapes)]
    try:
        want = np.einsum(text, *arrays)
    except ValueError:
        with pytest.raises(gx.GraphError):
            gx.einsum(text, *symbols)
        return
    made = gx.einsum(text, *symbols, optimize=optimize)
    got = gx.evaluate([made], dict(zip(symbols, arrays, strict=True)))[0]
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 2))),
        ("bii,bij->j", ((2, 3, 3), (2, 3, 4))),
        ("a...,ab->b...", ((3, 2), (3, 4))),
        ("ij,ij,j->i", ((2, 3), (2, 3), (3,))),
    ],
)
def test_compiled_with_derivatives(text: str, shapes: Any) -> None:
    symbols = [gx.symbol(f"x{i}", shape) for i, shape in enumerate(shapes)]
    arrays = [RANDOM.uniform(-2, 2, shape) for shape in shapes]
    made = gx.einsum(text, *symbols)
    got = gx.compile(symbols, [made], options=QUICK)(*arrays)[0]
    np.testing.assert_allclose(got, np.einsum(text, *arrays), 1e-13, 1e-13)
    assert gx.check_grad(gx.sum(gx.sin(made)), symbols, dict(zip(symbols, arrays, strict=True)))


def test_the_order_has_the_fewest_multiplications() -> None:
    """A chain of matrices: 10x30x5x60, where the textbook's order takes 4500 instead of 27000."""
    x, y, z = (gx.symbol(n, s) for n, s in zip("xyz", ((10, 30), (30, 5), (5, 60)), strict=True))
    path, text = gx.einsum_path("ij,jk,kl->il", x, y, z)
    assert path == ["einsum_path", (0, 1), (0, 1)] and text.startswith("4500 ")
    path, text = gx.einsum_path("kl,jk,ij->il", z, y, x, optimize=False)
    assert text.startswith("27000 ")
    assert gx.einsum_path("kl,jk,ij->il", z, y, x)[1].startswith("4500 ")


def test_many_operands() -> None:
    """More than are searched for the best order: a chain and a ring of 12."""
    names = "abcdefghijkl"
    terms = [names[i : i + 2] if i < 11 else "la" for i in range(12)]
    arrays = [RANDOM.integers(-1, 2, (2, 2)).astype("float64") for _ in terms]
    symbols = [gx.symbol(f"x{i}", (2, 2)) for i in range(12)]
    values = dict(zip(symbols, arrays, strict=True))
    got = gx.evaluate([gx.einsum(",".join(terms) + "->", *symbols)], values)[0]
    assert got == np.trace(np.linalg.multi_dot(arrays))


def test_named_extents_agree_at_entry() -> None:
    x, y = gx.symbol("x", ("n", "m")), gx.symbol("y", ("k", 3))
    made = gx.einsum("ij,jk->ik", x, y)
    assert made.shape[1] == 3
    compiled = gx.compile([x, y], [made], options=QUICK)
    a, b = RANDOM.uniform(size=(4, 2)), RANDOM.uniform(size=(2, 3))
    np.testing.assert_allclose(compiled(a, b)[0], a @ b, 1e-14)
    with pytest.raises(ValueError, match="differ|agree|extent"):
        compiled(a, RANDOM.uniform(size=(5, 3)))


def test_dtypes() -> None:
    x, y = gx.symbol("x", (3, 4), "float16"), gx.symbol("y", (4, 2), "int8")
    assert gx.einsum("ij,jk", x, y).dtype == "float16"
    assert gx.einsum("ij,jk", x, y, dtype="float32").dtype == "float32"
    assert gx.matmul(y.T, y).dtype == "int8" and gx.matmul(y.T, y, dtype="int32").dtype == "int32"
    p = gx.symbol("p", (3, 3), "bool")
    assert (p @ p).dtype == "bool" and gx.dot(p, p).dtype == "bool"
    full = np.full((4, 2), 100, "int8")
    exact = gx.evaluate([gx.matmul(y.T, y, dtype="int32")], {y: full})[0]
    assert (exact == 40000).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: gx.einsum(x), "needs subscripts"),
        (lambda x: gx.einsum((0, 1)), "needs subscripts"),
        (lambda x: gx.einsum("ij,jk", x), "for 2 operands, got 1"),
        (lambda x: gx.einsum("ijk", x), "of rank 2"),
        (lambda x: gx.einsum("i.j", x), "letters and one"),
        (lambda x: gx.einsum("ij->ii", x), "several times"),
        (lambda x: gx.einsum("ij->k", x), "which no operand has"),
        (lambda x: gx.einsum("...j->j", x), "needs '...'"),
        (lambda x: gx.einsum("ij,ij", x, x.T), "has extent"),
        (lambda x: gx.einsum("ii", x), "has extent"),
        (lambda x: gx.einsum(x, [0, 99]), "integers from 0"),
        (lambda x: gx.einsum("ij,ij", x, x, optimize="best"), "optimize is"),
        (lambda x: gx.einsum("ij,ij,ij", x, x, x, optimize=["einsum_path", (0, 5)]), "positions"),
        (lambda x: gx.cross(x, x), "3 components"),
        (lambda x: gx.matrix_power(x, 2), "square"),
        (lambda x: gx.matrix_power(x @ x.T, 0.5), "integer"),
        (lambda x: gx.multi_dot([x]), "two or more"),
        (lambda x: gx.matvec(x[0], x), "at least 2 axes"),
    ],
)
def test_messages(call: Any, said: str) -> None:
    with pytest.raises(gx.GraphError, match=said):
        call(gx.symbol("x", (2, 4)))
