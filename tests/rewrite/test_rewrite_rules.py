"""Does every rule fire, and does it keep the values that its law promises?

One parametrised test a promise, over the whole registry: a rule cannot be added without an example
on which it fires through the public entry, nor without its law being tried on the values at which
laws break.
"""

from __future__ import annotations

import numpy as np
import pytest
from rewrite_values import close, fill, same_bits, symbols_of, values_of

import graphc as gx
from graphc.errors import GraphError
from graphc.node import Node
from graphc.origin import location
from graphc.rewrite import RULES, Rule, admitted, explain, rewrite
from graphc.rewrite.rule import LAWS, example_symbol, parameters_of

OTHER_DTYPES = ("uint8", "int8", "uint64", "float16", "bfloat16")
LEVEL = {"ieee": "ieee", "stable": "ieee", "real": "real", "fast": "fast"}
BUILT_IN = list(RULES.values())
EXACT = [rule for rule in BUILT_IN if rule.law == "ieee" and not rule.reorders]
ROUNDED = [rule for rule in BUILT_IN if rule not in EXACT]
BEYOND_IEEE = frozenset(rule.name for rule in BUILT_IN if rule.law != "ieee")


def by_name(rules: list[Rule]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", rules, ids=lambda rule: rule.name)


def test_there_are_rules_of_every_law() -> None:
    assert len(BUILT_IN) >= 200
    assert {rule.law for rule in BUILT_IN} == set(LAWS)


@by_name(BUILT_IN)
def test_the_example_fires_and_types_stay(rule: Rule) -> None:
    before = rule.example_nodes()
    result = rewrite(before, LEVEL[rule.law])
    assert rule.name in {firing.rule.name for firing in result.firings}
    assert [node.type for node in result.outputs] == [node.type for node in before]
    assert result.refused == []
    assert result.complete


@by_name(BUILT_IN)
def test_rewriting_again_changes_nothing(rule: Rule) -> None:
    once = rewrite(rule.example_nodes(), LEVEL[rule.law]).outputs
    twice = rewrite(once, LEVEL[rule.law])
    assert all(a is b for a, b in zip(once, twice.outputs, strict=True))
    assert twice.firings == []


@by_name(BUILT_IN)
def test_an_excluded_rule_does_not_fire(rule: Rule) -> None:
    result = rewrite(rule.example_nodes(), LEVEL[rule.law], exclude={rule.name})
    assert rule.name not in {firing.rule.name for firing in result.firings}


@by_name(BUILT_IN)
def test_a_rule_prints_both_sides(rule: Rule) -> None:
    before, after = str(rule).split("  ->  ")
    assert before and after
    assert "object at" not in str(rule)


@by_name(EXACT)
def test_ieee_rules_keep_every_bit(rule: Rule) -> None:
    before = rule.example_nodes()
    result = rewrite(before, exclude=BEYOND_IEEE)
    assert rule.name in {firing.rule.name for firing in result.firings}
    after = result.outputs
    rng = np.random.default_rng(7)
    for trial in range(30):
        values = {s: fill(s, rng, special=trial % 3 != 0) for s in symbols_of(before)}
        pairs = zip(values_of(before, values), values_of(after, values), strict=True)
        for old, new in pairs:
            assert same_bits(old, new), (values, old, new)


@by_name(EXACT)
def test_ieee_rules_keep_every_bit_in_other_dtypes(rule: Rule) -> None:
    """The example, with each float or integer symbol of it in a dtype that wraps around or rounds
    sooner.
    """
    rng = np.random.default_rng(10)
    for dtype in OTHER_DTYPES:
        usual = {name: example_symbol(name) for name in parameters_of(rule.example)}
        try:
            made = rule.example(
                *[
                    s if s.dtype.kind == "b" else gx.symbol(name, s.shape, dtype)
                    for name, s in usual.items()
                ]
            )
        except GraphError:
            continue  # not for this dtype
        before = list(made) if isinstance(made, (list, tuple)) else [made]
        after = rewrite(before, exclude=BEYOND_IEEE).outputs
        assert [node.type for node in after] == [node.type for node in before]
        for trial in range(6):
            values = {s: fill(s, rng, special=trial % 3 != 0) for s in symbols_of(before)}
            pairs = zip(values_of(before, values), values_of(after, values), strict=True)
            for old, new in pairs:
                assert same_bits(old, new), (dtype, values, old, new)


@by_name(ROUNDED)
def test_other_rules_keep_values_to_within_rounding(rule: Rule) -> None:
    before = rule.example_nodes()
    after = rewrite(before, LEVEL[rule.law]).outputs
    rng = np.random.default_rng(8)
    compared = 0
    for _ in range(12):
        values = {s: fill(s, rng, special=False) for s in symbols_of(before)}
        for old, new in zip(values_of(before, values), values_of(after, values), strict=True):
            assert close(old, new), (values, old, new)
            compared += int(np.isfinite(old).sum())
    assert compared > 0


@pytest.mark.parametrize("rule", [r for r in BUILT_IN if r.reorders], ids=lambda r: r.name)
def test_reordering_rules_keep_integers_exactly(rule: Rule) -> None:
    """With integer values every order of a sum gives the same floats: nothing else may differ."""
    before = rule.example_nodes()
    after = rewrite(before, exclude=BEYOND_IEEE).outputs
    rng = np.random.default_rng(9)
    values = {s: rng.integers(-9, 9, s.shape).astype(s.dtype) for s in symbols_of(before)}
    for old, new in zip(values_of(before, values), values_of(after, values), strict=True):
        np.testing.assert_array_equal(old, new)


def test_levels_admit_laws() -> None:
    laws = {math: {rule.law for rule in admitted(math)} for math in ("ieee", "real", "fast")}
    assert laws["ieee"] == {"ieee", "stable"}
    assert laws["real"] == {"ieee", "stable", "real"}
    assert laws["fast"] == set(LAWS)


def test_misuse_is_an_error_that_names_what_there_is() -> None:
    with pytest.raises(GraphError, match="'ieee', 'real', 'fast'"):
        rewrite([], math="exact")
    with pytest.raises(GraphError, match="no rule is named 'log1q'"):
        rewrite([], exclude={"log1q"})


def test_explanation_lists_rule_law_line_and_both_sides() -> None:
    node = _written_here()
    shown = str(explain(node))
    assert "log1p [stable] at " in shown
    assert "log(1.0 + x)  ->  log1p(x)" in shown
    assert f"{__file__}:{_written_here.__code__.co_firstlineno + 4}" in shown
    assert explain(node).counts() == {"log1p": 1}


def _written_here() -> Node:
    import graphc as gx

    x = gx.vector("x", 3)
    return gx.log(1.0 + x)


def test_origins_of_the_replaced_node_and_the_event_are_in_the_new_one() -> None:
    node = _written_here()
    (made,) = rewrite([node]).outputs
    kinds = [(event.kind, event.subject) for event in made.origin]
    assert ("rule", "log1p") in kinds
    line = f"{__file__}:{_written_here.__code__.co_firstlineno + 4}"
    assert line in [location((event,)) for event in made.origin]


def test_no_origins_are_recorded_where_they_are_off() -> None:
    import graphc as gx

    with gx.origins(False):
        x = gx.symbol("without_origin", 3)
        (made,) = rewrite([gx.log(1.0 + x)]).outputs
    assert made.op.name == "log1p"
    assert made.origin == ()
