"""Do containers survive being flattened, and is the order of leaves a function of structure alone?

Random nests are flattened and rebuilt; the named cases state the order, the paths and the refusals.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import doctest
import enum
import operator
import pickle
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc.tree
from graphc.tree import LEAF, Structure, flatten, map_tree, paths, register_container


class Pair(NamedTuple):
    first: object
    second: object


@dataclasses.dataclass
class Layer:
    weight: object
    bias: object = None


@dataclasses.dataclass(frozen=True)
class Model:
    layers: object
    activation: object = dataclasses.field(default="tanh", metadata={"static": True})
    derived: object = dataclasses.field(init=False, default=0)

    def __post_init__(self):
        if self.layers is None:
            raise ValueError("a model needs layers")


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    value: object


class Ring:
    """A user's container: values around a centre that is part of the structure."""

    def __init__(self, values, centre=None):
        self.values, self.centre = values, centre

    def __eq__(self, other):
        return isinstance(other, Ring) and vars(self) == vars(other)


register_container(
    Ring,
    lambda ring: (ring.values, ring.centre),
    lambda children, centre: Ring(children, centre),
)


def nests():
    """Trees of every kind of container with integers as leaves."""

    def containers(inner):
        return st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.text(max_size=3), inner, max_size=3),
            st.dictionaries(st.one_of(st.integers(), st.text(max_size=2)), inner, max_size=3),
            st.builds(Pair, inner, inner),
            st.builds(Layer, inner, inner),
            st.builds(Slotted, inner),
            st.builds(Ring, st.lists(inner, max_size=2), st.integers(0, 2)),
        )

    return st.recursive(st.one_of(st.integers(), st.none()), containers, max_leaves=12)


@settings(max_examples=200, deadline=None)
@given(nests())
def test_round_trip(tree):
    leaves, structure = flatten(tree)
    assert structure.unflatten(leaves) == tree
    assert len(leaves) == structure.leaf_count == len(structure.paths())
    assert flatten(structure.unflatten(leaves)) == (leaves, structure)
    loaded = pickle.loads(pickle.dumps(structure))
    assert (
        loaded == structure and hash(loaded) == hash(structure) and repr(loaded) == repr(structure)
    )
    assert copy.deepcopy(structure) == structure


@settings(max_examples=100, deadline=None)
@given(nests(), nests())
def test_equal_structures_are_those_that_exchange_leaves(left, right):
    left_structure, right_structure = flatten(left)[1], flatten(right)[1]
    blank = [0] * left_structure.leaf_count
    same = left_structure.leaf_count == right_structure.leaf_count and left_structure.unflatten(
        blank
    ) == right_structure.unflatten(blank)
    # Python calls a namedtuple equal to a tuple, a structure does not.
    if left_structure == right_structure:
        assert same and left_structure.difference(right_structure) is None
    else:
        assert left_structure.difference(right_structure)
        assert not same or "Pair" in repr((left_structure, right_structure))


@settings(max_examples=100, deadline=None)
@given(nests())
def test_paths_lead_to_the_leaves(tree):
    assert [eval(f"tree{path}", {"tree": indexable(tree)}) for path in paths(tree)] == flatten(
        tree
    )[0]


def indexable(tree):
    """`tree` with each ring replaced by its list of values, which the path of a ring indexes."""
    if isinstance(tree, Ring):
        return [indexable(value) for value in tree.values]
    if isinstance(tree, dict):
        return {key: indexable(value) for key, value in tree.items()}
    if isinstance(tree, Pair):
        return Pair(*map(indexable, tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map(indexable, tree))
    if isinstance(tree, Layer):
        return Layer(indexable(tree.weight), indexable(tree.bias))
    return Slotted(indexable(tree.value)) if isinstance(tree, Slotted) else tree


# Order


def test_dict_order_does_not_depend_on_insertion():
    left, right = {"b": 1, "a": 2}, {"a": 2, "b": 1}
    assert flatten(left) == flatten(right) and flatten(left)[0] == [2, 1]
    assert list(flatten(left)[1].unflatten([5, 6])) == ["a", "b"]
    assert flatten({10: "x", 9: "y"})[0] == ["y", "x"]
    assert flatten({"a": 1, 2: 2, 1: 3})[0] == flatten({1: 3, 2: 2, "a": 1})[0] == [3, 2, 1]
    assert flatten({(1, "b"): 1, (1, "a"): 2})[0] == [2, 1]


def test_keys_without_an_order_are_refused():
    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

    with pytest.raises(TypeError, match=r"dict at \['palette'\]: keys of a dict have no order"):
        flatten({"palette": {Colour.RED: 1, Colour.BLUE: 2}})
    for partial in (frozenset({1}), frozenset({2})), (float("nan"), 1.0):
        with pytest.raises(TypeError, match="no total order"):
            flatten(dict.fromkeys(partial, 0))


def test_dataclass_fields_come_in_order():
    model = Model([Layer(1, 2), Layer(3)])
    leaves, structure = flatten(model)
    assert leaves == [1, 2, 3, 0]
    assert paths(model) == [".layers[0].weight", ".layers[0].bias", ".layers[1].weight", ".derived"]
    rebuilt = structure.unflatten("wxyz")
    assert rebuilt == dataclasses.replace(model, layers=rebuilt.layers) or rebuilt.derived == "z"
    assert rebuilt.layers[1] == Layer("y", None) and rebuilt.activation == "tanh"
    assert repr(structure) == (
        "Model(layers=[Layer(weight=*, bias=*), Layer(weight=*, bias=None)], derived=*, "
        "activation='tanh')"
    )


def test_static_fields_belong_to_the_structure():
    assert flatten(Model([1]))[1] != flatten(Model([1], "relu"))[1]
    with pytest.raises(TypeError, match="cannot flatten the Model at the root: unhashable"):
        flatten(Model([1], []))


def test_rebuilding_a_dataclass_runs_no_constructor():
    structure = flatten(Model(7))[1]
    assert structure.unflatten([None, 1]).layers is None


def test_none_has_no_leaves():
    assert flatten(None) == ([], Structure("none"))
    assert flatten([None, 1])[0] == [1]


def test_everything_else_is_a_leaf():
    ordered = collections.OrderedDict(a=1)
    values = [1.5, "text", {1, 2}, range(3), ordered, Layer, b"bytes", lambda: 0]
    leaves, structure = flatten(values)
    assert all(left is right for left, right in zip(leaves, values, strict=True))
    assert set(structure.children) == {LEAF}


def test_is_leaf_stops_the_descent():
    tree = {"a": (1, 2), "b": [3, None]}
    leaves, structure = flatten(tree, is_leaf=lambda node: isinstance(node, tuple) or node is None)
    assert leaves == [(1, 2), 3, None]
    assert structure.unflatten(leaves) == tree
    assert paths(tree, is_leaf=lambda node: True) == [""]


# Structures


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (0, "*"),
        ((), "()"),
        ((1,), "(*,)"),
        ([1, (2, 3)], "[*, (*, *)]"),
        ({"a": 1, "b": None}, "{'a': *, 'b': None}"),
        (Pair(1, [2]), "Pair(first=*, second=[*])"),
        (Ring([1, 2], 5), "Ring[5](*, *)"),
        (Ring([]), "Ring()"),
    ],
)
def test_text(tree, text):
    assert repr(flatten(tree)[1]) == str(flatten(tree)[1]) == text


def test_structures_are_values():
    structures = {flatten(tree)[1] for tree in ([1, 2], [3, 4], (1, 2), Pair(1, 2), [1, [2]])}
    assert len(structures) == 4
    assert flatten([1])[1] != "[*]"
    with pytest.raises(AttributeError, match="immutable"):
        LEAF.kind = "none"


def test_unflatten_counts_leaves():
    structure = flatten({"a": 1, "b": 2})[1]
    for leaves in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match=f"has 2 leaves, but {len(leaves)} were given"):
            structure.unflatten(leaves)


def test_cycles_and_depth_are_refused():
    loop = {"a": [1]}
    loop["a"].append(loop)
    with pytest.raises(ValueError, match=r"dict at the root contains itself, at \['a'\]\[1\]"):
        flatten(loop)
    inner = []
    inner.append(inner)
    with pytest.raises(ValueError, match=r"list at \['x'\] contains itself, at \['x'\]\[0\]"):
        flatten({"x": inner})
    deep = 0
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        flatten(deep)
    shared = [1]
    assert flatten([shared, shared])[0] == [1, 1]


# Mapping


def test_map_tree():
    tree = {"a": 1, "b": Pair(2, [3, None])}
    assert map_tree(lambda x: -x, tree) == {"a": -1, "b": Pair(-2, [-3, None])}
    total = map_tree(lambda x, y, z: x + y * z, tree, tree, tree)
    assert total == {"a": 2, "b": Pair(6, [12, None])}
    assert map_tree(len, [(1, 2)], is_leaf=lambda node: isinstance(node, tuple)) == [2]
    assert map_tree(abs, []) == []


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ({"a": [1, 2]}, {"a": [1]}, r"at \['a'\]: \[..., ...\] against \[...\]"),
        ({"a": [1, 2]}, {"a": (1, 2)}, r"at \['a'\]: \[..., ...\] against \(..., ...\)"),
        ({"a": 1}, {"b": 1}, r"at the root: \{'a': ...\} against \{'b': ...\}"),
        (Pair(1, [1, 2]), Pair(1, [1, None]), r"at .second\[1\]: a leaf against None"),
        ([Layer(1, 2)], [Pair(1, 2)], r"at \[0\]: Layer\(weight=.*\) against Pair\(first=.*\)"),
        (Ring([1], 2), Ring([1], 3), r"at the root: Ring\[2\]\(...\) against Ring\[3\]\(...\)"),
    ],
)
def test_map_tree_names_the_difference(left, right, message):
    with pytest.raises(ValueError, match=f"tree 1 and tree 3 differ in structure {message}"):
        map_tree(max, left, left, right)


# Users' containers


def test_registered_containers():
    tree = {"ring": Ring([1, (2, 3)], "centre")}
    leaves, structure = flatten(tree)
    assert leaves == [1, 2, 3] and structure.unflatten(leaves) == tree
    assert paths(tree) == ["['ring'][0]", "['ring'][1][0]", "['ring'][1][1]"]
    with pytest.raises(TypeError, match=r"cannot flatten the Ring at \[0\]: unhashable"):
        flatten([Ring([1], [])])


def test_registration_is_checked():
    class Odd:
        pass

    for container in (Ring, dict, type(None)):
        with pytest.raises(ValueError, match="container already"):
            register_container(container, lambda tree: ([], None), lambda children, _: None)
    with pytest.raises(TypeError, match="by its class"):
        register_container(Odd(), lambda tree: ([], None), lambda children, _: None)
    assert flatten(Odd())[1] is LEAF
    register_container(Odd, lambda tree: [1, 2, 3], lambda children, _: Odd())
    with pytest.raises(TypeError, match=r"Odd must return \(children, auxiliary\)"):
        flatten(Odd())


def test_a_structure_of_an_unregistered_class_says_so():
    class Missing:
        pass

    structure = Structure("registered", Missing, None, (LEAF,))
    with pytest.raises(TypeError, match="Missing is not registered"):
        structure.unflatten([1])


def test_examples_in_the_documentation():
    assert doctest.testmod(graphc.tree).failed == 0


def test_containers_of_plain_leaves_are_those_of_the_general_way() -> None:
    class Name(str):
        pass

    class Number(float):
        pass

    x = np.arange(3.0)
    trees: list[Any] = [
        {"b": x, "a": 1.0},
        {"a": x, "b": (1, 2.5, "text"), "c": [x, True, 1j]},
        {Name("b"): 1, Name("a"): 2},
        {1: x, 2: x},
        {True: x, 2: x},
        {"a": Number(2.0)},
        [np.float32(1), np.float64(2), np.int8(3)],
        ({}, [], (), None),
        [{}],
    ]
    for tree in trees:
        leaves, structure = flatten(tree)
        general, wanted = flatten(tree, is_leaf=lambda _: False)
        assert structure == wanted and hash(structure) == hash(wanted)
        assert len(leaves) == len(general) and all(map(operator.is_, leaves, general))
        rebuilt = structure.unflatten(leaves)
        assert repr(rebuilt) == repr(wanted.unflatten(general))
        if type(tree) is dict:
            assert [*map(type, rebuilt)] == [*map(type, wanted.unflatten(general))]


def test_a_type_of_plain_leaves_may_become_a_container() -> None:
    code = """
from graphc.tree import flatten, register_container
before = flatten([1j])[1]
register_container(complex, lambda z: ([z.real, z.imag], None), lambda new, _: complex(*new))
leaves, structure = flatten([1 + 2j])
assert leaves == [1.0, 2.0] and structure != before, leaves
assert structure.unflatten([3.0, 4.0]) == [3 + 4j]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
