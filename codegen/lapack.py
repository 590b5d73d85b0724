"""Which routines of LAPACK may a kernel call, and what does each do with the memory of its task?

A `Library` statement names an entry of `ROUTINES`. How it is called is data: a word for each of the
arguments of the Fortran routine, all of which are addresses. What it means is a NumPy function on
the same memory, by which the interpreter runs it and tests compare it.

LAPACK reads columns. A matrix in C order is the transpose of what LAPACK sees, so every entry is
the routine for the transposed problem, and no matrix is copied for the sake of its order: of a
symmetric matrix the other triangle is named, and the factors of an SVD are exchanged. Only rows
that change places have to be columns (`getrf`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

# The letter of a dtype in front of a routine's name.
LETTERS = {"float32": "s", "float64": "d"}
NOT_ASKED = -1
"""The outcome of a statement whose condition does not hold."""

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Foreign:
    """A routine for float32 and float64, with some of its arguments fixed.

    `arguments`, in the order of the Fortran routine: `'V` is the letter V, `n` a size, `&a` an
    array, `#work` the number of elements of an array, and `info` the outcome, 0 if all went well.
    Arrays whose names begin with an i are of int32, as in Fortran, the others of the dtype.
    `meaning(arrays)` does the same in NumPy, in place, and returns the outcome.
    """

    name: str
    arguments: str
    meaning: Callable[[Arrays], int]

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.arguments.split())

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that a statement gives, in order."""
        return tuple(dict.fromkeys(word[1:] for word in self.words if word[0] == "&"))

    @cached_property
    def sizes(self) -> tuple[str, ...]:
        """The names of the sizes that a statement gives, in order."""
        plain = (w for w in self.words if w[0].isalpha() and w != "info")
        return tuple(dict.fromkeys(plain))

    def dtype_of(self, array: str, dtype: str) -> str:
        """The dtype of an array, where the routine is that for `dtype`."""
        return "int32" if array.startswith("i") else dtype

    def symbol(self, dtype: str) -> str:
        """The name under which kernels call it."""
        return f"{PREFIX}{LETTERS[dtype]}{self.name}"

    def signature(self, dtype: str) -> tuple[str, ...]:
        """What each argument points to: "char", "int", or the letter of a dtype."""
        return tuple(self._pointee(word, dtype) for word in self.words)

    def _pointee(self, word: str, dtype: str) -> str:
        if word[0] == "'":
            return "char"
        is_array = word[0] == "&" and self.dtype_of(word[1:], dtype) == dtype
        return LETTERS[dtype] if is_array else "int"


PREFIX = "graphc_lapack_"


# -- what they mean --------------------------------------------------------------------------------


def _symmetric(arrays: Arrays) -> int:
    try:
        arrays["w"][:], vectors = np.linalg.eigh(arrays["a"], "L")
    except np.linalg.LinAlgError:
        return 1
    arrays["a"][:] = vectors.T
    return 0


def _symmetric_values(arrays: Arrays) -> int:
    try:
        arrays["w"][:] = np.linalg.eigvalsh(arrays["a"], "L")
    except np.linalg.LinAlgError:
        return 1
    return 0


def _singular(arrays: Arrays) -> int:
    try:
        left, values, right = np.linalg.svd(arrays["a"], full_matrices=False)
    except np.linalg.LinAlgError:
        return 1
    arrays["s"][:], arrays["u"][:], arrays["vt"][:] = values, right, left
    return 0


def _singular_values(arrays: Arrays) -> int:
    try:
        arrays["s"][:] = np.linalg.svd(arrays["a"], compute_uv=False)
    except np.linalg.LinAlgError:
        return 1
    return 0


def _elimination(arrays: Arrays) -> int:
    matrix, outcome = arrays["a"].T, 0
    for k in range(len(arrays["ipiv"])):
        size = np.abs(matrix[k:, k])
        best = k + (0 if np.isnan(size).any() else int(np.argmax(size)))
        arrays["ipiv"][k] = best + 1
        matrix[[k, best]] = matrix[[best, k]]
        if matrix[k, k] != 0:
            matrix[k + 1 :, k] /= matrix[k, k]
        else:
            outcome = outcome or k + 1
        matrix[k + 1 :, k + 1 :] -= matrix[k + 1 :, k, None] * matrix[k, k + 1 :]
    return outcome


def _root(upper: bool) -> Callable[[Arrays], int]:
    def meaning(arrays: Arrays) -> int:
        matrix = arrays["a"]
        side = np.triu if upper else np.tril
        whole = side(matrix) + side(matrix, 1 if upper else -1).T
        try:
            factor = np.linalg.cholesky(whole, upper=upper)
        except np.linalg.LinAlgError:
            return 1
        inside = side(np.ones(matrix.shape, bool))
        matrix[inside] = factor[inside]
        return 0

    return meaning


# What is done with a matrix of the kernel, in C order. `u` and `vt` are exchanged: of the
# transpose the left vectors are the right ones.
ROUTINES: Mapping[str, Foreign] = {
    # The lower triangle in, vectors as rows out.
    "eigh": Foreign(
        "syevd", "'V 'U n &a n &w &work #work &iwork #iwork info", _symmetric
    ),
    "eigvalsh": Foreign(
        "syevd", "'N 'U n &a n &w &work #work &iwork #iwork info", _symmetric_values
    ),
    # A matrix [m, n] in, right vectors as rows in `u`, left ones as columns in `vt`.
    "svd": Foreign(
        "gesdd", "'S n m &a n &s &u n &vt k &work #work &iwork info", _singular
    ),
    "svdvals": Foreign(
        "gesdd", "'N n m &a n &s &s n &s m &work #work &iwork info", _singular_values
    ),
    # The transpose [n, m] of a matrix in, that of the packed factors out.
    "lu": Foreign("getrf", "m n &a m &ipiv info", _elimination),
    # A triangle in, that of the factor out; the other one is left alone.
    "cholesky_lower": Foreign("potrf", "'U n &a n info", _root(upper=False)),
    "cholesky_upper": Foreign("potrf", "'L n &a n info", _root(upper=True)),
}


def by_symbol(symbol: str) -> tuple[Foreign, str] | None:
    """The routine and the dtype of a name under which kernels call it; None for other names."""
    if not symbol.startswith(PREFIX):
        return None
    letter, name = symbol[len(PREFIX)], symbol[len(PREFIX) + 1 :]
    dtype = next(dtype for dtype, known in LETTERS.items() if known == letter)
    return next(each for each in ROUTINES.values() if each.name == name), dtype


__all__ = ["NOT_ASKED", "ROUTINES", "Foreign", "by_symbol"]
