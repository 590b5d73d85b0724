"""Rewriting: graph in, simpler graph out, by rules that are data.

The order of these imports is the order in which rules are tried on a node: constants are folded
before anything else, views are merged before formulas are looked for, and stability comes before
algebra, which would break its patterns.
"""

# isort: off
from graphc.rewrite import fold, movement, pads, windows, reductions, contractions
from graphc.rewrite import stable, formulas, gradients, choice, algebra, rounding, scans

# isort: on
from graphc.rewrite.explain import Explanation, explain
from graphc.rewrite.facts import facts_of
from graphc.rewrite.pattern import functions, named, numbers, variables
from graphc.rewrite.pipeline import Result, admitted, rewrite
from graphc.rewrite.rule import RULES, Firing, Rule, rule

__all__ = [
    "RULES",
    "Explanation",
    "Firing",
    "Result",
    "Rule",
    "admitted",
    "algebra",
    "choice",
    "contractions",
    "explain",
    "facts_of",
    "fold",
    "formulas",
    "functions",
    "gradients",
    "movement",
    "pads",
    "named",
    "numbers",
    "reductions",
    "rewrite",
    "rounding",
    "rule",
    "scans",
    "stable",
    "variables",
    "windows",
]
