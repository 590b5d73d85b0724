"""Why was a plan made anew, although the cache is on?

Beside each plan the cache keeps the facts that its key was made of, under a key of the graph alone.
When a plan is missed they say what has changed since the graph was compiled last: an option, the
processor, graphc itself. The report of a Function tells, and `graphc doctor` tells of the last miss
of any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from graphc.runtime.cache import Cache

# Facts whose values are of no use to a reader.
_UNREADABLE = ("graphc's files",)


def missed(cache: Cache, key: str, facts: Mapping[str, str], name: str) -> str:
    """Why the plan of a key is not to be had; kept for `last_miss` with the Function's name."""
    why = _story(cache, key, facts)
    cache.put(_LAST, json.dumps({"name": name, "why": why}).encode())
    return why


def remember(cache: Cache, facts: Mapping[str, str]) -> None:
    """Keep the facts behind a plan that has been stored."""
    cache.put(_place(facts), json.dumps(dict(facts)).encode())


def last_miss(cache: Cache) -> str:
    """The last plan that any process had to make, and why; empty if there was none."""
    held = _read(cache, _LAST)
    return f"{held['name']}: {held['why']}" if held else ""


def _story(cache: Cache, key: str, facts: Mapping[str, str]) -> str:
    found = cache.explain(key)
    if found.state not in ("absent", "present"):
        return f"the entry is {found.state}: {found.detail}"
    before = _read(cache, _place(facts))
    if not before:
        return "this graph was not compiled before, or so long ago that it was dropped"
    changes = [
        f"{name} changed" if name in _UNREADABLE else f"{name} was {before.get(name)}, is {value}"
        for name, value in facts.items()
        if before.get(name) != value
    ]
    return "; ".join(changes) or "the entry was dropped, or is damaged"


def _place(facts: Mapping[str, str]) -> str:
    """The key of the facts about a graph, of whatever value they are."""
    return _digest("facts", facts["graph"], facts["variant"])


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


_LAST = _digest("last miss")


def _read(cache: Cache, key: str) -> dict[str, Any]:
    data = cache.get(key)
    try:
        return dict(json.loads(data)) if data else {}
    except ValueError:
        return {}
