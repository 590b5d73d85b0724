"""Is the cache right whatever happens to its folder?"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphc.runtime import cache as cache_module
from graphc.runtime.cache import FORMAT_VERSION, Cache, default_folder

KEY = "0123456789abcdef" * 4
OTHER_KEY = "fedcba9876543210" * 4
ROOT = Path(__file__).resolve().parents[2]


def entry_path(cache: Cache, key: str = KEY) -> Path:
    path = cache.explain(key).path
    assert path is not None
    return path


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000])
def test_bytes_come_back(cache: Cache, data: bytes) -> None:
    assert cache.get(KEY) is None
    assert cache.put(KEY, data)
    assert cache.get(KEY) == data
    assert Cache(cache.folder.parent).get(KEY) == data
    assert (cache.stats.hits, cache.stats.misses, cache.stats.writes) == (1, 1, 1)
    assert cache.stats.writable is True


def test_a_second_write_replaces_the_first(cache: Cache) -> None:
    cache.put(KEY, b"first")
    cache.put(KEY, b"second, longer")
    assert cache.get(KEY) == b"second, longer"
    assert [path.name for path in entry_path(cache).parent.iterdir()] == [KEY]


@pytest.mark.parametrize(
    "key", ["", "short", "../../etc/passwd", KEY.upper(), KEY + "/x", "g" * 64]
)
def test_keys_that_are_not_digests_are_refused(cache: Cache, key: str) -> None:
    with pytest.raises(ValueError, match="cache key"):
        cache.get(key)
    with pytest.raises(ValueError, match="cache key"):
        cache.put(key, b"")


DAMAGE = {
    "empty": lambda content: b"",
    "cut in the header": lambda content: content[:20],
    "cut in the payload": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "another file": lambda content: b"#!/bin/sh\necho no\n" * 20,
    "text mode": lambda content: content.replace(b"\r\n", b"\n"),
    "magic": lambda content: b"G" + content[1:],
    "first payload byte": lambda content: content[:56] + b"\xff" + content[57:],
    "last payload byte": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "checksum": lambda content: content[:30] + bytes([content[30] ^ 1]) + content[31:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_a_miss_and_is_rebuilt(cache: Cache, damage) -> None:
    cache.put(KEY, b"payload of the entry")
    path = entry_path(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.explain(KEY).state == "damaged"
    assert cache.get(KEY) is None
    assert cache.stats.rejected == 1
    assert cache.put(KEY, b"payload of the entry")
    assert cache.get(KEY) == b"payload of the entry"


@pytest.mark.parametrize("position", range(60))
def test_no_single_bit_goes_unnoticed(cache: Cache, position: int) -> None:
    cache.put(KEY, b"data")
    path = entry_path(cache)
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(bytes(content))
    if 12 <= position < 16:  # the four bytes that align the header mean nothing
        assert cache.get(KEY) == b"data"
    else:
        assert cache.get(KEY) is None


def test_an_entry_under_another_key_is_not_used(cache: Cache) -> None:
    cache.put(KEY, b"data")
    other = entry_path(cache, OTHER_KEY)
    other.parent.mkdir(parents=True)
    other.write_bytes(entry_path(cache).read_bytes())
    assert cache.get(OTHER_KEY) is None
    assert cache.explain(OTHER_KEY).state == "damaged"


def test_another_format_version_is_named(cache: Cache) -> None:
    cache.put(KEY, b"data")
    path = entry_path(cache)
    content = path.read_bytes()
    path.write_bytes(content[:8] + (FORMAT_VERSION + 1).to_bytes(4, "little") + content[12:])
    assert cache.get(KEY) is None
    explanation = cache.explain(KEY)
    assert explanation.state == "version"
    assert str(FORMAT_VERSION + 1) in explanation.detail


def test_explain_present_and_absent(cache: Cache) -> None:
    assert cache.explain(KEY).state == "absent"
    cache.put(KEY, b"data")
    assert cache.explain(KEY).state == "present"
    assert cache.stats.hits == cache.stats.misses == 0  # explaining is not using


def test_a_folder_in_place_of_an_entry_is_unreadable(cache: Cache) -> None:
    entry_path(cache).mkdir(parents=True)
    assert cache.get(KEY) is None
    assert cache.explain(KEY).state in ("unreadable", "damaged")
    assert cache.put(KEY, b"data") is False


def test_a_folder_that_cannot_exist_is_survived(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    assert cache.put(KEY, b"data") is False
    assert cache.get(KEY) is None
    assert cache.stats.writable is False
    assert cache.stats.failed_writes == 1
    assert cache.stats.last_error


def test_a_read_only_folder_is_read(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(KEY, b"data")
    reader = Cache(cache.folder.parent)
    open_file = os.open

    def refuse_writes(path, flags, *arguments, **keywords):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return open_file(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refuse_writes)
    assert reader.put(OTHER_KEY, b"new") is False
    assert reader.get(KEY) == b"data"
    assert reader.stats.writable is False
    assert "Read-only" in reader.stats.last_error


def test_a_failed_rename_leaves_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(KEY, b"old")

    def refuse(*arguments):
        raise PermissionError("a reader on Windows holds the file")

    monkeypatch.setattr(os, "replace", refuse)
    assert cache.put(KEY, b"new") is False
    assert cache.get(KEY) == b"old"
    assert [path.name for path in entry_path(cache).parent.iterdir()] == [KEY]
    assert cache.stats.writable is True  # the first write went through


def test_no_cache_folder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "default_folder", lambda: None)
    cache = Cache()
    assert cache.put(KEY, b"data") is False
    assert cache.get(KEY) is None
    assert cache.explain(KEY).state == "disabled"
    assert cache.size_bytes() == cache.trim() == 0


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=10_000)
    for number in range(8):
        cache.put(key_of(number), bytes(1000))
        day = time.time() - 86_400 * (10 - number)
        os.utime(entry_path(cache, key_of(number)), (day, day))
    assert cache.get(key_of(0)) is not None  # used now, so it is no longer the oldest
    for number in range(8, 12):
        cache.put(key_of(number), bytes(1000))
    cache.trim()
    assert cache.size_bytes() <= 10_000
    kept = [number for number in range(12) if cache.explain(key_of(number)).state == "present"]
    assert 0 in kept
    assert 1 not in kept
    assert {8, 9, 10, 11} <= set(kept)


def test_writing_keeps_to_the_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=50_000)
    for number in range(200):
        assert cache.put(key_of(number), bytes(1000))
    assert cache.size_bytes() <= 50_000 + 50_000 // 16 + 1100
    assert cache.put(key_of(999), bytes(60_000)) is False  # larger than everything allowed
    assert Cache(tmp_path, limit_bytes=0).put(key_of(1000), b"data") is False


def test_trimming_removes_what_a_killed_writer_left(cache: Cache) -> None:
    cache.put(KEY, b"data")
    folder = entry_path(cache).parent
    old, fresh = folder / "0123-1-2-abc.part", folder / "0123-1-3-abc.part"
    for path in (old, fresh):
        path.write_bytes(b"half an ent")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.trim()
    assert not old.exists()
    assert fresh.exists()  # its writer may be alive
    assert cache.get(KEY) == b"data"


def test_clear_removes_entries(cache: Cache) -> None:
    cache.put(KEY, b"data")
    cache.put(OTHER_KEY, b"data")
    cache.clear()
    assert cache.get(KEY) is None
    assert cache.size_bytes() == 0


def test_the_folder_follows_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "graphc"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/path")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_folder() == tmp_path / ".cache" / "graphc"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_folder() == tmp_path / "Library" / "Caches" / "graphc"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert default_folder() == tmp_path / "Local" / "graphc"
    monkeypatch.delenv("LOCALAPPDATA")
    assert default_folder() is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_default_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Cache()
    assert cache.put(KEY, b"data")
    assert (tmp_path / "graphc").stat().st_mode & 0o077 == 0


MANY_PROCESSES = """
import hashlib, random, sys
from graphc.runtime.cache import Cache
seed, folder = int(sys.argv[1]), sys.argv[2]
random.seed(seed)
cache = Cache(folder, limit_bytes=200_000)
keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(12)]
found = 0
for step in range(400):
    key = random.choice(keys)
    data = cache.get(key)
    if data is not None:
        found += 1
        assert len(set(data)) <= 1 and 1 <= len(data) <= 40_000, "a torn entry"
    if random.random() < 0.5:
        cache.put(key, bytes([seed]) * random.randint(1, 40_000))
    if random.random() < 0.02:
        cache.trim()
assert cache.stats.rejected == 0, "a reader saw an unfinished entry"
assert cache.stats.failed_writes == 0, cache.stats.last_error
print(found)
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", MANY_PROCESSES, str(seed), str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    for worker in workers:
        output, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
        assert int(output) > 0
