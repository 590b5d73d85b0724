"""Graphs that the golden files show. Golden origins name their lines: keep the numbers in mind."""

import graphc as gx


def gradient():
    x = gx.symbol("x", ("batch", 3))
    weights = gx.symbol("weights", (3, 2))
    bias = gx.symbol("bias", (2,), "float32", facts=("finite",))
    hidden = gx.tanh(x @ weights + bias)
    cost = gx.mean((hidden - 0.5) ** 2)
    return {"cost": cost, "gradient": gx.grad(cost, [weights, bias])}


def regions():
    x = gx.symbol("x", (4, 3))

    def layer(a):
        return gx.call(lambda b: b * 2.0 - 1.0, a, name="inner") + a

    y = gx.call(layer, gx.call(layer, x))
    whole, parts = gx.scan(lambda total, row: (total + row.sum(), gx.modf(row)), 0.0, y)
    return whole, parts
