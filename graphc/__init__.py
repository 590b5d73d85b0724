"""graphc compiles symbolic tensor expressions to native kernels."""

from graphc import _checkout
from graphc._version import __version__

_checkout.install()

__all__ = ["__version__"]
