"""How is the text of an extent read back?"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from graphc.dims.polynomial import FUNCTIONS, LARGEST_POWER, Extent, dim
from graphc.dims.terms import INFIX, term_key

_LARGEST_PARSED_BITS = 4096


def parse(text: str) -> Extent:
    """The extent that `text` says, in the form that `str` writes; nothing is executed.

    Understood are names, integers, + - * // % **, min, max, floordiv(a, b) and mod(a, b).
    ValueError names anything else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _read(tree.body, text)
    except SyntaxError as error:
        raise ValueError(f"cannot read the extent {text!r}: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"cannot read the extent {text[:60]!r}...: nested too deeply") from None
    except ZeroDivisionError:
        raise ValueError(f"cannot read the extent {text!r}: division by zero") from None


def _read_power(base: Extent, exponent: Extent) -> Extent:
    if type(exponent) is not int or not 0 <= exponent <= LARGEST_POWER:
        raise ValueError(f"a power must be an integer between 0 and {LARGEST_POWER}: {exponent}")
    if isinstance(base, int):
        if base.bit_length() * exponent > _LARGEST_PARSED_BITS:
            raise ValueError(f"{base}**{exponent} is too large for an extent")
        return base**exponent
    if -term_key(base.terms[0])[0] * exponent > LARGEST_POWER:
        raise ValueError(f"({base})**{exponent} exceeds degree {LARGEST_POWER}")
    return base**exponent


_BINARY: dict[type[ast.operator], Callable[[Extent, Extent], Extent]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _read_power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Extent], Extent]] = {
    ast.USub: lambda operand: -operand,
    ast.UAdd: lambda operand: operand,
}


def _read(node: ast.expr, text: str) -> Extent:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return dim(name)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_read(operand, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_read(left, text), _read(right, text))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if (len(arguments) != 2 and name in INFIX) or not arguments:
                raise ValueError(
                    f"cannot read the extent {text!r}: wrong number of arguments of {name}"
                )
            return FUNCTIONS[name](*(_read(argument, text) for argument in arguments))
    raise ValueError(
        f"cannot read the extent {text!r}: {ast.unparse(node)!r} is none of names, integers, "
        "+ - * // % **, min, max, floordiv, mod"
    )
