"""Which errors does graphc raise on purpose, and what do their messages look like?

`GraphError` while a graph is built, `CompileError` while it is compiled. Bad arguments of a call
raise `TypeError` or `ValueError`, as NumPy does. A message has at most eight lines: what was
expected, what came, for which node, built where, and what to do.
"""

from __future__ import annotations

import numpy as np

MESSAGE_LINES = 8
_LONGEST_LINE = 200


class GraphError(ValueError):
    """An expression cannot be built: shapes, dtypes, attributes or a missing derivative."""


class GraphTypeError(GraphError, TypeError):
    """An expression is used where Python wants a value: a truth value, a number, an index."""


class GraphLinAlgError(GraphError, np.linalg.LinAlgError):
    """Matrices of a shape that a function of linear algebra does not take."""


class GraphAttributeError(GraphError, AttributeError):
    """An expression has no such attribute, which an array of NumPy has."""


class EndlessTraceError(GraphError):
    """A function that is traced calls itself without end."""


class ExtentError(ValueError):
    """The arguments of a call have extents that the compiled graph cannot take."""


class CompileError(RuntimeError):
    """A graph cannot be compiled."""


class MissingExtra(ImportError):
    """An optional feature needs a package that is not installed."""


def missing_extra(package: str, extra: str, what: str) -> MissingExtra:
    """The error that names the extra: `pip install "graphc-compiler[extra]"`."""
    return MissingExtra(
        f"{what} needs the package {package!r}, which is not installed.\n"
        f'Install it with: pip install "graphc-compiler[{extra}]"'
    )


def shortened(text: str, lines: int = 1) -> str:
    """Text of a user's own, fit for a message: at most so many lines, none of them endless."""
    kept = text.splitlines()[:lines] or [""]
    return "\n".join(
        line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..." for line in kept
    )
