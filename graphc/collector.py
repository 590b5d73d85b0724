"""When is Python's cycle collector in the way?  While many objects are made that form no cycle.

Nodes are immutable and refer to nodes that were there before, so there is nothing to collect among
them; but each hundred new ones make the collector look at the young, and from time to time at all
of a graph of millions. That takes a third of the time of differentiating such a graph.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Within the block the collector does not start by itself; unless it is off anyway, it does
    again afterwards. Reference counts free what they free.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
