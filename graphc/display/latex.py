r"""How does a graph read as a formula?  LaTeX, in the notation that each op states.

A formula repeats what is shared, so what is used more than once is named t_1, t_2, ... on a line of
its own; so is what would make a line too long. Everything that binds more loosely than its place
allows stands in parentheses.

    >>> from graphc.ops.operands import symbol
    >>> x, y = symbol("x"), symbol("y")
    >>> print(to_latex((x - y) / (x * y)))
    \frac{x - y}{x \cdot y}
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from graphc.display.listing import (
    ATOM,
    LOOSE,
    Listing,
    Operand,
    Outline,
    attribute_texts,
    fields_of,
    graphs_of,
    is_number,
    leaf,
    outline,
    template_of,
    value_text,
)
from graphc.graph import Graph, parameter_op, symbol_op
from graphc.node import Node

_LONGEST = 400  # characters of LaTeX in one line, about twice what fits a page
_POWER, _PRODUCT, _SUM, _RELATION = 14, 12, 11, 6
_SIGNS = {
    "+": _SUM, "-": _SUM, r"\cdot": _PRODUCT, r"\,": _PRODUCT, r"\wedge": 5, r"\vee": 4,
    "=": _RELATION, r"\neq": _RELATION, "<": _RELATION, r"\leq": _RELATION, ">": _RELATION,
    r"\geq": _RELATION,
}  # fmt: skip
# Signs of text notation, for ops that state no LaTeX of their own.
_FROM_TEXT = {
    "@": r"\,", "==": "=", "!=": r"\neq", "<": "<", "<=": r"\leq", ">": ">", ">=": r"\geq",
    "&": r"\wedge", "|": r"\vee", "+": "+", "-": "-", "*": r"\cdot",
}  # fmt: skip
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split()
)
_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "^": r"\textasciicircum{}",
    "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&", "~": r"\textasciitilde{}",
}  # fmt: skip


def to_latex(x: Any) -> str:
    """A node, a Graph, or a nested container of nodes in LaTeX's mathematics, without delimiters.

    One expression, or an `aligned` environment of definitions; the bodies of nested Graphs are
    defined last.
    """
    shown = outline(x)
    counter: Iterator[int] = iter(range(1, 1 << 62))
    lines = list(_definitions(shown.main, shown, counter, ""))
    for graph, listing in shown.bodies.items():
        lines += _definitions(listing, shown, counter, _graph_name(shown.names[graph]))
    if len(lines) == 1 and shown.main.subject.is_bare:
        return lines[0][1]
    rows = " \\\\\n".join(f"  {name} &= {text}" for name, text in lines)
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


def _definitions(
    listing: Listing, shown: Outline, counter: Iterator[int], title: str
) -> Iterator[tuple[str, str]]:
    """What is defined, left and right of the sign, for one listing."""
    users: dict[Node, int] = {}
    for node in listing.names:
        for _, source in listing.sources(node):
            users[source] = users.get(source, 0) + 1
    texts: dict[Node, Operand] = {}

    def operand(node: Node) -> Operand:
        if node in texts:
            return texts[node]
        if not node.args:
            return _leaf(node)
        return _notation(node, [operand(node.args[0])], shown)  # one result of several

    for node in listing.names:
        operands = [operand(argument) for argument in listing.arguments(node)]
        text = _notation(node, operands, shown)
        texts[node] = text
        repeated = users.get(node, 0) > 1 or len(text.text) > _LONGEST
        if node.args and users.get(node, 0) and repeated:
            texts[node] = Operand(f"t_{{{next(counter)}}}", ATOM)
            yield texts[node].text, text.text
    yield from _results(listing, [operand(output).text for output in listing.subject.outputs], title)


def _results(listing: Listing, texts: list[str], title: str) -> Iterator[tuple[str, str]]:
    subject = listing.subject
    if subject.parameters is not None:
        inside = ", ".join(f"p_{{{i}}}" for i in range(len(subject.parameters)))
        value = texts[0] if len(texts) == 1 else f"\\left({', '.join(texts)}\\right)"
        yield f"{title or 'g'}({inside})", value
        return
    paths = subject.paths or ("",)
    for path, text in zip(paths, texts, strict=True):
        yield rf"\text{{result{_escaped(path)}}}", text


def _notation(node: Node, operands: list[Operand], shown: Outline) -> Operand:
    """A node over the given operands."""
    if not node.args:
        return _leaf(node)
    if node.op.name == "project":
        return Operand(f"{_enclose(operands[0], ATOM)}_{{[{node.attrs['index']}]}}", ATOM)
    template, said = node.op.latex, ()
    if not template:
        text, said = template_of(node)
        template = _translated(text)
    fields = fields_of(template)
    rest = attribute_texts(node, {*fields, *said}, shown.names)
    if not template or fields.count("") != len(operands) or rest:
        return _named(node, operands, rest, shown)
    binding, least = _binding(template)
    inner = template.replace("{}", r"\left({}\right)") if _is_function(template) else template
    least = least + (LOOSE,) * (len(operands) - len(least))
    attributes = {name: _escaped(value_text(node.attrs[name])) for name in fields if name}
    return Operand(inner.format(*map(_enclose, operands, least), **attributes), binding)


def _named(node: Node, operands: list[Operand], rest: list[str], shown: Outline) -> Operand:
    r"""\operatorname{sum}_{axes=(0,)}\left(x\right), for ops without a notation."""
    graphs = graphs_of(node)
    label = node.attrs.get("name", "") or node.op.name
    about = [text for text in rest if not text.startswith(("graph=", "name="))]
    subscript = [_graph_name(shown.names[graph]) for graph in graphs]
    subscript += [rf"\text{{{_escaped(text)}}}" for text in about]
    below = f"_{{{', '.join(subscript)}}}" if subscript else ""
    inside = ", ".join(operand.text for operand in operands)
    return Operand(rf"\operatorname{{{_escaped(label)}}}{below}\left({inside}\right)", ATOM)


@functools.lru_cache(maxsize=1024)
def _translated(text: str) -> str:
    """The LaTeX template of a text template; empty if there is none."""
    infix = re.fullmatch(r"\{\}(\.T)? (\S+) \{\}(\.T)?", text)
    if infix and infix[2] in _FROM_TEXT:
        left, right = (r"{}^{{\top}}" if transposed else "{}" for transposed in infix.group(1, 3))
        return f"{left} {_FROM_TEXT[infix[2]]} {right}"
    return {"~{}": r"\neg {}", "{}.T": r"{}^{{\top}}"}.get(text, "")


def _is_function(template: str) -> bool:
    r"""`\tanh {}`: the argument always stands in parentheses."""
    return re.fullmatch(r"\\[A-Za-z]+ \{\}", template) is not None and template != r"\neg {}"


@functools.lru_cache(maxsize=1024)
def _binding(template: str) -> tuple[int, tuple[int, ...]]:
    """How tightly a template binds, and how tightly its operands must."""
    power = r"\{\}(?:\^\S*)?"
    infix = re.fullmatch(rf"({power}) (\S+) ({power})", template)
    if infix:
        own = _SIGNS.get(infix[2], LOOSE)
        left, right = (own + (own == _RELATION), own + 1) if own else (ATOM, ATOM)
        return own, (ATOM if "^" in infix[1] else left, ATOM if "^" in infix[3] else right)
    if template == "-{}":
        return _SUM, (_PRODUCT,)
    if template == r"\neg {}":
        return _PRODUCT, (ATOM,)
    if template.startswith("{}^"):
        return _POWER, (ATOM,)
    return (_POWER if "^" in template or r"\frac" in template else ATOM), ()


def _enclose(operand: Operand, least: int) -> str:
    return operand.text if operand.binding >= least else rf"\left({operand.text}\right)"


def _leaf(node: Node) -> Operand:
    if node.op is symbol_op:
        return Operand(_symbol(node.attrs["name"]), ATOM)
    if node.op is parameter_op:
        return Operand(f"p_{{{node.attrs['index']}}}", ATOM)
    text = leaf(node).text
    if is_number(node):
        return _number(text)
    if node.op.name == "extent":
        extent = str(node.attrs["extent"])
        return Operand(rf"\text{{{_escaped(extent)}}}", ATOM if extent.isidentifier() else LOOSE)
    return Operand(rf"\text{{{_escaped(text)}}}", ATOM)


def _number(text: str) -> Operand:
    spelled = {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{NaN}"}.get(text)
    binding = _SUM if text.startswith("-") else ATOM
    if spelled is not None:
        return Operand(spelled, binding)
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return Operand(rf"\mathrm{{{text}}}" if text.isalpha() else text, binding)
    return Operand(rf"{mantissa} \cdot 10^{{{int(power)}}}", min(binding, _PRODUCT))


def _symbol(name: str) -> str:
    r"""x, \alpha, w_{1}, or \mathrm{loss}."""
    stem, digits = re.fullmatch(r"(.*?)_?(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    if stem in _GREEK:
        stem = "\\" + stem
    elif len(stem) != 1 or not stem.isalpha():
        stem = rf"\mathrm{{{_escaped(stem or name)}}}"
    return f"{stem}_{{{digits}}}" if digits and name != digits else stem


def _graph_name(name: str) -> str:
    return f"g_{{{name[1:]}}}"


def _escaped(text: str) -> str:
    printable = text if text.isprintable() else ascii(text)
    return "".join(_ESCAPES.get(character, character) for character in printable)
