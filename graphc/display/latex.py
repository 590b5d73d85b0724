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
import itertools
import re
from collections import Counter
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
from graphc.graph import parameter_op, symbol_op
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
    "&": r"\wedge", "|": r"\vee", "^": r"\oplus", "<<": r"\ll", ">>": r"\gg",
    "%": r"\bmod", "+": "+", "-": "-", "*": r"\cdot",
}  # fmt: skip
_WORDS = {
    "inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{NaN}", "True": r"\mathrm{True}",
    "False": r"\mathrm{False}",
}  # fmt: skip
_GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi",
    "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi",
    "Omega",
))  # fmt: skip
_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "^": r"\textasciicircum{}",
    "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&", "~": r"\textasciitilde{}",
}  # fmt: skip


def to_latex(x: Any) -> str:
    """A node, a Graph, or a nested container of nodes in LaTeX's mathematics, without delimiters.

    One expression, or an `aligned` environment of definitions (of the package amsmath); the bodies
    of nested Graphs are defined last.
    """
    shown = outline(x)
    writer = _Writer(shown)
    lines = list(writer.definitions(shown.main, "g"))
    for graph, listing in shown.bodies.items():
        lines += writer.definitions(listing, _graph_name(shown.names[graph]))
    if len(lines) == 1 and shown.main.subject.is_bare:
        return lines[0][1]
    rows = " \\\\\n".join(f"  {name} &= {text}" for name, text in lines)
    return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


class _Writer:
    """Writes the listings of one outline; no name means two things in them."""

    def __init__(self, shown: Outline) -> None:
        self._names = shown.names
        listings = [shown.main, *shown.bodies.values()]
        most = max(len(listing.subject.parameters or ()) for listing in listings)
        taken = {f"p_{{{i}}}" for i in range(most)} | set(map(_graph_name, shown.names.values()))
        self._symbols: dict[str, str] = {}
        for listing in listings:
            for node in listing.names:
                name = node.attrs["name"] if node.op is symbol_op else None
                if name is None or name in self._symbols:
                    continue
                spelled = _symbol(name)
                if spelled in taken:  # x1 and x_1, say
                    spelled = _word(name)
                self._symbols[name] = spelled
                taken.add(spelled)
        numbered = (f"t_{{{i}}}" for i in itertools.count(1))
        self._new_names = (name for name in numbered if name not in taken)

    def definitions(self, listing: Listing, title: str) -> Iterator[tuple[str, str]]:
        """What is defined, left and right of the sign, for one listing."""
        uses = Counter(source for node in listing.names for _, source in listing.sources(node))
        given_back = Counter(map(listing.source, listing.subject.outputs))
        texts: dict[Node, Operand] = {}
        for node in listing.names:
            operands = [self._operand(argument, texts) for argument in listing.arguments(node)]
            texts[node] = written = self._notation(node, operands)
            repeated = uses[node] + given_back[node] > 1
            if node.args and (repeated or (uses[node] and len(written.text) > _LONGEST)):
                texts[node] = Operand(next(self._new_names), ATOM)
                yield texts[node].text, written.text
        results = [self._operand(output, texts).text for output in listing.subject.outputs]
        if listing.subject.parameters is not None:
            inside = ", ".join(f"p_{{{i}}}" for i in range(len(listing.subject.parameters)))
            value = results[0] if len(results) == 1 else rf"\left({', '.join(results)}\right)"
            yield f"{title}({inside})", value
            return
        for path, text in zip(listing.subject.paths or ("",), results, strict=True):
            yield rf"\text{{result{_escaped(path)}}}", text

    def _operand(self, node: Node, texts: dict[Node, Operand]) -> Operand:
        if node in texts:
            return texts[node]
        if not node.args:
            return self._leaf(node)
        return self._notation(node, [self._operand(node.args[0], texts)])  # one of several results

    def _notation(self, node: Node, operands: list[Operand]) -> Operand:
        """A node over the given operands."""
        if not node.args:
            return self._leaf(node)
        if node.op.name == "project":
            return Operand(f"{_enclose(operands[0], ATOM)}[{node.attrs['index']}]", ATOM)
        template, said = template_of(node)
        special = bool(_translated(template)) and template != node.op.text
        template = _translated(template) if special or not node.op.latex else node.op.latex
        fields = fields_of(template)
        rest = attribute_texts(node, {*fields, *said}, self._names, typed=False)
        if not template or fields.count("") != len(operands) or rest:
            return self._named(node, operands, rest)
        binding, least = _binding(template)
        least = least + (LOOSE,) * (len(operands) - len(least))
        if _is_function(template):
            template = template.replace("{}", r"\left({}\right)")
        attributes = {name: _escaped(value_text(node.attrs[name])) for name in fields if name}
        return Operand(template.format(*map(_enclose, operands, least), **attributes), binding)

    def _named(self, node: Node, operands: list[Operand], rest: list[str]) -> Operand:
        """For ops without a notation: their name, attributes below, arguments in parentheses."""
        label = node.attrs.get("name", "") or node.op.name
        below = [_graph_name(self._names[graph]) for graph in graphs_of(node)]
        about = (text for text in rest if not text.startswith(("graph=", "name=")))
        below += [rf"\text{{{_escaped(text)}}}" for text in about]
        subscript = f"_{{{', '.join(below)}}}" if below else ""
        inside = ", ".join(operand.text for operand in operands)
        return Operand(rf"{_word(label, 'operatorname')}{subscript}\left({inside}\right)", ATOM)

    def _leaf(self, node: Node) -> Operand:
        if node.op is symbol_op:
            return Operand(self._symbols[node.attrs["name"]], ATOM)
        if node.op is parameter_op:
            return Operand(f"p_{{{node.attrs['index']}}}", ATOM)
        text = leaf(node).text
        if is_number(node):
            return _number(text)
        if node.op.name == "extent":
            extent = str(node.attrs["extent"])
            binding = ATOM if extent.isidentifier() else LOOSE
            return Operand(rf"\text{{{_escaped(extent)}}}", binding)
        return Operand(rf"\text{{{_escaped(text)}}}", ATOM)


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


def _number(text: str) -> Operand:
    binding = _SUM if text.startswith("-") else ATOM
    if text in _WORDS:
        return Operand(_WORDS[text], binding)
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return Operand(text, binding)
    return Operand(rf"{mantissa} \cdot 10^{{{int(power)}}}", min(binding, _PRODUCT))


def _symbol(name: str) -> str:
    r"""x, \alpha, w_{1}, or \mathrm{loss}."""
    stem, digits = re.fullmatch(r"(.*?)_?(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    if stem in _GREEK:
        stem = "\\" + stem
    elif len(stem) != 1 or not (stem.isascii() and stem.isalpha()):
        stem = _word(stem or name)
    return f"{stem}_{{{digits}}}" if digits and name != digits else stem


def _word(name: str, command: str = "mathrm") -> str:
    """A name of several letters; as text if it holds what mathematics would misread."""
    plain = name.isascii() and name.isidentifier()
    return rf"\{command if plain else 'text'}{{{_escaped(name)}}}"


def _graph_name(name: str) -> str:
    return f"g_{{{name[1:]}}}"


def _escaped(text: str) -> str:
    printable = text if text.isprintable() else ascii(text)
    return "".join(_ESCAPES.get(character, character) for character in printable)
