"""What can a user do wrong? One small program for each mistake, by topic.

Every program ends with the statement that is refused. `gx`, `np` and `target` are given; the
programs under "call" and "run" are run natively and by the kernel interpreter, and must be refused
in the same words.
"""

from __future__ import annotations

BUILD = {
    "symbol without a name": "gx.symbol('')",
    "symbol with a number for a name": "gx.symbol(3)",
    "symbol with a line break in its name": "gx.symbol('a\\nb')",
    "symbol of an unknown dtype": "gx.symbol('x', (3,), 'complex128')",
    "symbol of no dtype at all": "gx.symbol('x', (3,), 'number')",
    "symbol with a negative extent": "gx.symbol('x', (-2,))",
    "symbol with a fraction for an extent": "gx.symbol('x', (2.5,))",
    "symbol with a fraction for a shape": "gx.symbol('x', 2.5)",
    "symbol with an extent that cannot be read": "gx.symbol('x', ('n m',))",
    "symbol with too many axes": "gx.symbol('x', (1,) * 65)",
    "symbol with an unknown fact": "gx.symbol('x', (), facts=['tall'])",
    "constant of text": "gx.vector('x', 3) + 'a'",
    "constant of None": "gx.vector('x', 3) * None",
    "constant of an object": "gx.constant({})",
    "constant that is complex": "gx.vector('x', 3) + 1j",
    "constant of an unsupported dtype": "gx.vector('x', 3) + np.ones(3, 'float128')",
    "constant of objects": "gx.constant(np.array([1, None]))",
    "constant of records": "gx.constant(np.zeros(3, 'f8,f8'))",
    "constant of dates": "gx.constant(np.datetime64('2020'))",
    "constant of a masked array": "gx.constant(np.ma.masked_array([1.0, 2.0], [True, False]))",
    "constant that does not fit": "gx.scalar('i', 'int64') + 2**64",
    "constant of NaN as an integer": "gx.constant(float('nan'), 'int64')",
    "constant of an array of NaN as integers": "gx.constant(np.array([1, np.nan]), 'int64')",
    "shapes that do not broadcast": """
x = gx.matrix("x", (3, 4))
y = gx.vector("y", 3)
x + y
""",
    "where, shapes": """
c = gx.symbol("c", (2,), "bool")
gx.where(c, gx.vector("x", 3), 0)
""",
    "operator that bool does not have": """
x = gx.symbol("x", (3,), "bool")
-x
""",
    "logical operator of floats": "gx.vector('x', 3) & gx.vector('y', 3)",
    "truth value": """
x = gx.scalar("x")
if x > 0:
    pass
""",
    "float value": "float(gx.scalar('x'))",
    "array value": "np.asarray(gx.vector('x', 3))",
    "iteration over a symbolic axis": "list(gx.vector('x', 'n'))",
    "one result of several": """
parts = gx.modf(gx.vector("x", 3))
gx.project(parts, 0)
""",
    "matmul, extents": """
a = gx.matrix("a", (3, 4))
b = gx.matrix("b", (3, 4))
a @ b
""",
    "matmul of a number": "gx.matrix('a', (3, 4)) @ 2.0",
    "tensordot, an axis that is not there": """
a = gx.matrix("a", (3, 4))
gx.tensordot(a, a, axes=([5], [1]))
""",
    "tensordot, a negative count": """
a = gx.matrix("a", (3, 4))
gx.tensordot(a, a, axes=-1)
""",
    "tensordot, an axis twice": """
a = gx.matrix("a", (3, 3))
gx.tensordot(a, a, axes=([0, 0], [0, 1]))
""",
    "sum over an axis that is not there": "gx.sum(gx.matrix('x', (3, 4)), axis=2)",
    "sum over an axis twice": "gx.sum(gx.matrix('x', (3, 4)), axis=(0, -2))",
    "sum over half an axis": "gx.sum(gx.matrix('x', (3, 4)), axis=0.5)",
    "max over nothing": "gx.max(gx.vector('x', 0))",
    "reshape, sizes": """
x = gx.matrix("x", (3, 4))
x.reshape(5, 3)
""",
    "reshape, sizes with an open extent": """
x = gx.matrix("x", (3, 4))
x.reshape(5, -1)
""",
    "reshape, two open extents": """
x = gx.matrix("x", (3, 4))
x.reshape(-1, -1)
""",
    "transpose, no permutation": """
x = gx.matrix("x", (3, 4))
x.transpose(0, 0)
""",
    "broadcast_to": """
x = gx.matrix("x", (3, 4))
gx.broadcast_to(x, (5, 4))
""",
    "squeeze": """
x = gx.matrix("x", (3, 4))
gx.squeeze(x, 0)
""",
    "concatenate of nothing": "gx.concatenate([])",
    "concatenate of one node": "gx.concatenate(gx.vector('x', 3))",
    "concatenate, shapes": """
x = gx.matrix("x", (3, 4))
y = gx.matrix("y", (3, 5))
gx.concatenate([x, y])
""",
    "concatenate of scalars": "gx.concatenate([gx.scalar('x'), 1.0])",
    "stack, shapes": """
x = gx.vector("x", 3)
y = gx.vector("y", 4)
gx.stack([x, y])
""",
    "full of an array": "gx.full((3,), gx.vector('x', 2))",
    "pad, three pairs": "gx.pad(gx.matrix('x', (3, 4)), [(1, 1), (1, 1), (1, 1)])",
    "pad, an unknown mode": "gx.pad(gx.vector('x', 3), 1, mode='median')",
    "pad, a negative width": "gx.pad(gx.vector('x', 3), [(-1, 1)])",
    "index out of range": """
x = gx.vector("x", 3)
x[3]
""",
    "index of text": "gx.vector('x', 3)['a']",
    "index with a mask": """
x = gx.vector("x", 3)
x[x > 0]
""",
    "index with too many": "gx.vector('x', 3)[0, 0]",
    "index with two arrays": "gx.matrix('x', (3, 3))[[0, 1], [0, 1, 2]]",
    "index with a known mask": "gx.vector('x', 3)[[True, False]]",
    "update of another shape": "gx.vector('x', 3).at[1:].set([1.0, 2.0, 3.0])",
    "update of integers by fractions": "gx.vector('k', 3, 'int64').at[0].add([0.5])",
    "repeat as often as data says": "gx.repeat(gx.vector('x', 3), gx.vector('k', 3, 'int64'))",
    "nonzero without a size": "gx.nonzero(gx.vector('x', 3))",
    "arange to data": "gx.arange(gx.scalar('n', 'int64'))",
    "split in parts that do not fit": "gx.split(gx.vector('x', 5), 2)",
    "slice from a fraction": """
x = gx.vector("x", 3)
x[0.5:]
""",
    "slice from a node": """
x = gx.vector("x", 3)
x[gx.scalar("i", "int64"):]
""",
    "slice with a step of 0": "gx.vector('x', 3)[::0]",
    "slice from data": "gx.vector('x', 'n')[gx.scalar('i', 'int64'):]",
    "take at floats": "gx.take(gx.vector('x', 3), [0.5])",
    "take out of a known range": """
x = gx.vector("x", 3)
gx.take(x, [0, 3])
""",
    "check of no condition": "gx.check(gx.scalar('x'), gx.scalar('y'), 'positive')",
    "scan without a length": "gx.scan(lambda s, x: (s, None), gx.scalar('s'))",
    "scan of a negative length": "gx.scan(lambda s, x: (s, None), gx.scalar('s'), length=-1)",
    "scan whose body returns one thing": """
gx.scan(lambda s, x: s + x, gx.scalar("s"), gx.vector("x", 3))
""",
    "scan whose state changes its dtype": """
gx.scan(lambda s, x: (s + x, None), 0, gx.vector("x", 3))
""",
    "scan whose state changes its structure": """
gx.scan(lambda s, x: ((s, s), None), gx.scalar("s"), gx.vector("x", 3))
""",
    "scan over arrays of two lengths": """
gx.scan(lambda s, x: (s, None), 0.0, (gx.vector("x", 3), gx.vector("y", 4)))
""",
    "scan over a scalar": "gx.scan(lambda s, x: (s, None), 0.0, gx.scalar('x'))",
    "gradient of a vector": """
x = gx.vector("x", 3)
gx.grad(x * 2, x)
""",
    "gradient with respect to text": "gx.grad(gx.sum(gx.vector('x', 3)), 'x')",
    "gradient, tangents that do not fit": """
x = gx.vector("x", 3)
gx.jvp(x * 2, x, gx.vector("t", 4))
""",
    "gx has no such name": "gx.frobnicate",
}

COMPILE = {
    "inputs that are no symbols": """
x = gx.vector("x", 3)
gx.compile([x + 1], [x])
""",
    "an input twice": """
x = gx.vector("x", 3)
gx.compile([x, x], [x])
""",
    "two inputs of one name": """
x = gx.vector("x", 3)
gx.compile([x, gx.vector("x", 4)], [x])
""",
    "a symbol that was not passed": """
x = gx.vector("x", 3)
y = gx.vector("y", 3)
gx.compile([x], [x + y])
""",
    "many symbols that were not passed": """
x = gx.vector("x", 3)
gx.compile([x], [sum((gx.vector(f"s{i}", 3) for i in range(20)), x)])
""",
    "a bound variable that got out": """
kept = []
x = gx.vector("x", 3)
gx.call(lambda a: kept.append(a) or a, x)
gx.compile([x], [x + kept[0]])
""",
    "no outputs": "gx.compile([gx.vector('x', 3)], [])",
    "an output of text": "gx.compile([gx.vector('x', 3)], ['x'])",
    "an unknown target": "gx.compile([gx.vector('x', 3)], [gx.vector('x', 3)], target='gpu')",
    "options that are none": """
x = gx.vector("x", 3)
gx.compile([x], [x], options={"threads": 1})
""",
    "a name with line breaks": "gx.compile([gx.scalar('x')], [gx.scalar('x')], name='a\\nb')",
    "a donated output": """
x = gx.vector("x", 3)
gx.compile([x], [x * 2], donate=[x * 2])
""",
    "a name donated": "gx.compile([gx.scalar('x')], [gx.scalar('x')], donate=['x'])",
    "an input donated twice": """
x = gx.vector("x", 3)
gx.compile([x], [x + 1, x + 2], donate=[x, x])
""",
    "an input donated to no output": """
x = gx.vector("x", 3)
gx.compile([x], [x + 1], donate={x: 1})
""",
    "an input that fits no output": """
x = gx.vector("x", 3)
gx.compile([x], [gx.sum(x)], donate=[x])
""",
    "a dimension that no argument has": """
x = gx.vector("x", "n")
gx.compile([x], [x, gx.zeros("m")])
""",
    "a dimension of a called body that no argument has": """
x = gx.vector("x", "n")
gx.compile([x], [gx.call(lambda a: gx.sum(a) + gx.sum(gx.ones("m")), x)])
""",
    "an extent that does not determine its dimensions": """
x = gx.symbol("x", ("n*m",))
gx.compile([x], [x])
""",
    "an extent beyond 64 bits": """
x = gx.vector("x", 3)
gx.compile([x], [gx.sum(x) + gx.sum(gx.ones(2**70))])
""",
    "a size beyond 64 bits": """
x = gx.vector("x", 3)
gx.compile([x], [gx.sum(x) + gx.sum(gx.iota((2**40, 2**40)))])
""",
}

CALL = {
    "too few arguments": """
x = gx.vector("x", 3)
y = gx.vector("y", 3)
f = gx.compile([x, y], [x + y], target=target)
f(np.ones(3))
""",
    "too many arguments": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3), np.ones(3))
""",
    "an unknown keyword": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], target=target)
f(y=np.ones(3))
""",
    "an argument twice": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3), x=np.ones(3))
""",
    "a wrong dtype": """
x = gx.vector("x", 3, "float32")
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3))
""",
    "a complex array": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3) * 1j)
""",
    "an array of objects": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], target=target)
f(np.array([1, 2, object], object))
""",
    "text": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], target=target)
f("abc")
""",
    "None": """
x = gx.scalar("x")
f = gx.compile([x], [x * 2], target=target)
f(None)
""",
    "a float for an integer": """
i = gx.scalar("i", "int64")
f = gx.compile([i], [i * 2], target=target)
f(2.5)
""",
    "an integer that does not fit": """
i = gx.scalar("i", "int64")
f = gx.compile([i], [i * 2], target=target)
f(2**63)
""",
    "a wrong rank": """
x = gx.matrix("x", (3, "n"))
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3))
""",
    "a wrong extent": """
x = gx.matrix("x", (3, "n"))
f = gx.compile([x], [x * 2], target=target)
f(np.ones((4, 5)))
""",
    "extents of one name that differ": """
x = gx.vector("x", "n")
y = gx.matrix("y", (2, "n"))
f = gx.compile([x, y], [x + y], target=target)
f(np.ones(3), np.ones((2, 4)))
""",
    "extents of two names that differ": """
x = gx.vector("x", "n")
y = gx.vector("y", "m")
f = gx.compile([x, y], [x + y], target=target)
f(np.ones(3), np.ones(4))
""",
    "extents of two names that differ, in a called body": """
x = gx.vector("x", "n")
y = gx.vector("y", "m")
z = gx.call(lambda a, b: gx.exp(a) + b, x, y)
f = gx.compile([x, y], [z], target=target)
f(np.ones(3), np.ones(4))
""",
    "extents that differ from a number": """
x = gx.vector("x", "n")
f = gx.compile([x], [x + np.ones(3)], target=target)
f(np.ones(4))
""",
    "names of dimensions that look like the program's own": """
x = gx.vector("x", "d1")
y = gx.vector("y", "d0")
f = gx.compile([x, y], [x + y], target=target)
f(np.ones(3), np.ones(4))
""",
    "a compound extent that is odd": """
x = gx.symbol("x", ("2*n + 1",))
f = gx.compile([x], [x * 2], target=target)
f(np.ones(4))
""",
    "a compound extent that is too small": """
x = gx.symbol("x", ("n + 3",))
f = gx.compile([x], [x * 2], target=target)
f(np.ones(2))
""",
    "a compound extent that differs": """
x = gx.vector("x", "n")
y = gx.symbol("y", ("2*n",))
f = gx.compile([x, y], [gx.sum(x) + gx.sum(y)], target=target)
f(np.ones(3), np.ones(5))
""",
    "an index beyond a symbolic axis": """
x = gx.vector("x", "n")
f = gx.compile([x], [x[3]], target=target)
f(np.ones(2))
""",
    "an index before a symbolic axis": """
x = gx.vector("x", "n")
f = gx.compile([x], [x[-3]], target=target)
f(np.ones(2))
""",
    "an index beyond a symbolic axis, in a called body": """
x = gx.vector("x", "n")
f = gx.compile([x], [gx.call(lambda a: a[3], x)], target=target)
f(np.ones(2))
""",
    "an extent that becomes negative": """
x = gx.vector("x", "n")
f = gx.compile([x], [gx.sum(x) + gx.ones(gx.dim("n") - 5)], target=target)
f(np.ones(3))
""",
    "an extent that is divided by 0": """
x = gx.vector("x", "n")
y = gx.vector("y", "m")
f = gx.compile([x, y], [gx.ones(gx.dim("n") // (gx.dim("m") - 1)), gx.sum(x)], target=target)
f(np.ones(3), np.ones(1))
""",
    "a result beyond 64 bits": """
x = gx.vector("x", "n")
n = gx.dim("n")
f = gx.compile([x], [gx.zeros(n * n * n * n), gx.sum(x)], target=target)
f(np.ones(65536))
""",
    "out of a wrong shape": """
x = gx.vector("x", "n")
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3), out=np.ones(4))
""",
    "out of a wrong dtype": """
x = gx.vector("x", "n")
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3), out=np.ones(3, int))
""",
    "out that is read-only": """
x = gx.vector("x", "n")
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3), out=np.broadcast_to(0.0, 3))
""",
    "out that is no array": """
x = gx.vector("x", "n")
f = gx.compile([x], [x * 2], target=target)
f(np.ones(3), out=[1, 2, 3])
""",
    "outs that overlap": """
x = gx.vector("x", "n")
f = gx.compile([x], [x * 2, x * 3], target=target)
out = np.ones(4)
f(np.ones(3), out=(out[:3], out[1:]))
""",
    "a donated array that is read-only": """
x = gx.vector("x", "n")
f = gx.compile([x], [x * 2], donate=[x], target=target)
array = np.ones(3)
array.flags.writeable = False
f(array)
""",
    "a donated list": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], donate=[x], target=target)
f([1.0, 2.0, 3.0])
""",
    "a donated array of another dtype": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], donate=[x], target=target)
f(np.ones(3, "float32"))
""",
    "a donated array with gaps": """
x = gx.vector("x", 3)
f = gx.compile([x], [x * 2], donate=[x], target=target)
f(np.ones(6)[::2])
""",
    "a donated array twice": """
x = gx.vector("x", 3)
y = gx.vector("y", 3)
f = gx.compile([x, y], [x + y, x - y], donate=[x, y], target=target)
array = np.ones(3)
f(array, array)
""",
    "a donated array that overlaps": """
x = gx.vector("x", 3)
y = gx.vector("y", 3)
f = gx.compile([x, y], [x + y], donate=[x], target=target)
array = np.ones(4)
f(array[:3], array[1:])
""",
    "containers of another structure": """
x = gx.vector("x", 3)
y = gx.vector("y", 3)
f = gx.compile([{"a": x, "b": y}], [x + y], target=target)
f({"a": np.ones(3), "c": np.ones(3)})
""",
    "containers by keyword": """
x = gx.vector("x", 3)
f = gx.compile([{"a": x}], [x * 2], target=target)
f(x=np.ones(3))
""",
}

RUN = {
    "take out of range": """
x = gx.vector("x", "n")
i = gx.vector("i", "m", "int64")
f = gx.compile([x, i], [gx.take(x, i)], target=target)
f(np.ones(3), [0, 1, 3])
""",
    "take out of range, from the end": """
x = gx.matrix("x", ("n", 4))
i = gx.scalar("i", "int64")
y = gx.take(x, i, axis=1)
f = gx.compile([x, i], [y], target=target)
f(np.ones((3, 4)), -5)
""",
    "take out of range, in a scan": """
x = gx.vector("x", "n")
i = gx.vector("i", "m", "int64")
total, _ = gx.scan(lambda s, k: (s + gx.take(x, k), None), 0.0, i)
f = gx.compile([x, i], [total], target=target)
f(np.ones(3), [0, 1, 3])
""",
    "take out of range, in a called body": """
x = gx.vector("x", "n")
i = gx.vector("i", "m", "int64")
f = gx.compile([x, i], [gx.call(lambda a, k: gx.take(a, k), x, i)], target=target)
f(np.ones(3), [7])
""",
    "the gradient of a take out of range": """
x = gx.vector("x", "n")
i = gx.vector("i", "m", "int64")
y = gx.take(x, i)
f = gx.compile([x, i], [gx.grad(gx.sum(y * y), x)], target=target)
f(np.ones(3), [4])
""",
    "a check": """
x = gx.vector("x", "n")
y = gx.check(x, x > 0, "x must be positive")
f = gx.compile([x], [gx.log(y)], target=target)
f(np.array([1.0, -1.0]))
""",
    "a check with a long message": """
x = gx.vector("x", "n")
y = gx.check(x, x > 0, "\\n".join(f"line {i}" for i in range(20)))
f = gx.compile([x], [y], target=target)
f(-np.ones(3))
""",
    "a check in a scan": """
x = gx.vector("x", "n")
total, _ = gx.scan(lambda s, a: (s + gx.check(a, a > 0, "positive"), None), 0.0, x)
f = gx.compile([x], [total], target=target)
f(np.array([1.0, -1.0]))
""",
}

EVALUATE = {
    "a symbol without a value": """
x = gx.vector("x", 3)
gx.evaluate(x + gx.vector("y", 3), {x: np.ones(3)})
""",
    "a value for a name": "gx.evaluate(gx.scalar('x'), {'x': 1.0})",
    "a value of a wrong shape": "gx.evaluate(gx.vector('x', 3), {gx.vector('x', 3): np.ones(4)})",
    "a value of a wrong rank": "gx.evaluate(gx.vector('x', 3), {gx.vector('x', 3): 1.0})",
    "a value of a wrong dtype": """
x = gx.vector("x", 3, "int64")
gx.evaluate(x, {x: np.ones(3)})
""",
    "a fraction for an integer": """
i = gx.scalar("i", "int64")
gx.evaluate(i, {i: 2.5})
""",
    "extents that differ": """
x, y = gx.vector("x", "n"), gx.matrix("y", (2, "n"))
gx.evaluate(x + y, {x: np.ones(3), y: np.ones((2, 4))})
""",
}

TOPICS = {"build": BUILD, "compile": COMPILE, "call": CALL, "run": RUN, "evaluate": EVALUATE}
TARGETS = {"call": ("cpu", "interpret"), "run": ("cpu", "interpret")}
