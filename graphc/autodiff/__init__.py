"""Derivatives of graphs, as graphs: reverse, forward, higher, series."""

from graphc.autodiff.curves import taylor
from graphc.autodiff.forward import jvp
from graphc.autodiff.higher import hessian, hvp, jacobian
from graphc.autodiff.reverse import grad, value_and_grad, vjp

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "taylor", "value_and_grad", "vjp"]
