"""Derivatives of graphs, as graphs: reverse, forward, higher."""

from graphc.autodiff.forward import jvp
from graphc.autodiff.higher import hessian, hvp, jacobian
from graphc.autodiff.reverse import grad, value_and_grad, vjp

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]
