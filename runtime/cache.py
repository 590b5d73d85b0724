"""Where do compiled objects stay between processes?  In one folder of checked files.

A file is trusted for nothing: every entry carries the format version, its length and a checksum
over its key and its bytes, so whatever is damaged, truncated, misplaced or written by another
format reads as a miss and is built again. A writer fills a temporary file in the same folder and
renames it, so a reader sees the old entry, the new one or none, and never waits. A folder that
cannot be written is still read. Reading copies bytes and runs nothing; but what comes back is
machine code that the engine will link, so the folder deserves the protection of the program itself:
the default one is created readable and writable by its owner only.

The environment chooses where the folder is and never what is in an entry: the key holds everything
that decides the bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FORMAT_VERSION = 1
DEFAULT_LIMIT_BYTES = 512 << 20

_MAGIC = b"graphc\r\n"  # the line end shows a transfer in text mode, as in PNG
_HEADER = struct.Struct("<8sI4xQ32s")  # magic, format version, payload bytes, checksum
_CHECKSUM_BYTES = 32
_KEY = re.compile(r"[0-9a-f]{16,128}")
_TEMPORARY_SUFFIX = ".part"
_TOUCH_AFTER_SECONDS = 3600.0  # a hit refreshes the time of use at most this often
_TRIM_AFTER_SECONDS = 24 * 3600.0
_ABANDONED_AFTER_SECONDS = 3600.0  # a temporary file older than this has no living writer
_TRIM_TO = 0.8  # of the limit, so that the next writes do not trim again
_TRIM_MARK = "trimmed"


@dataclass
class CacheStats:
    """What one `Cache` did in this process; `writable` is None until the first write."""

    hits: int = 0
    misses: int = 0
    rejected: int = 0  # misses for which a file was there, but not a sound one
    writes: int = 0
    failed_writes: int = 0
    writable: bool | None = None
    last_error: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why a key is, or is not, answered: `state` is a word for programs, `detail` a line for
    people.

    States: `present`, `absent`, `version` (another entry format), `damaged`, `unreadable`,
    `disabled`.
    """

    state: str
    detail: str
    path: Path | None


class _Rejected(Exception):
    """An entry file that must not be used: the state and detail of its `Explanation`."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(detail)
        self.state = state
        self.detail = detail


def default_folder() -> Path | None:
    """The folder used when none is named, or None where the platform names no home for caches.

    `$XDG_CACHE_HOME/graphc` if that variable is an absolute path (the XDG specification ignores
    relative ones), else `%LOCALAPPDATA%\\graphc`, `~/Library/Caches/graphc` or `~/.cache/graphc`.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(configured):
        return Path(configured) / "graphc"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return Path(local) / "graphc" if os.path.isabs(local) else None
    try:
        home = Path.home()
    except RuntimeError:  # no HOME and no password entry, as in some containers
        return None
    caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return caches / "graphc"


class Cache:
    """Bytes by key, on disk, shared by every process that names the same folder.

    `folder`: where entries live, below a sub-folder for the entry format; None is
    `default_folder()`. `limit_bytes`: entries used longest ago are removed once the folder is
    larger; 0 stores nothing. No method raises for the state of the disk; `stats` and `explain`
    tell it.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        chosen = default_folder() if folder is None else Path(folder)
        self.folder: Path | None = None if chosen is None else chosen / f"v{FORMAT_VERSION}"
        self.limit_bytes = limit_bytes
        self.stats = CacheStats()
        self._private = folder is None
        self._written_since_trim = 0
        self._serial = itertools.count()
        self._lock = threading.Lock()  # for the counters; files need none

    def get(self, key: str) -> bytes | None:
        """The bytes stored under `key` (16 to 128 lower-case hexadecimal digits), or None."""
        path = self._path(key)
        try:
            data = _read_entry(path, key)
        except _Rejected as rejection:
            with self._lock:
                self.stats.misses += 1
                self.stats.rejected += rejection.state != "absent"
            return None
        with self._lock:
            self.stats.hits += 1
        _touch(path)
        return data

    def put(self, key: str, data: bytes) -> bool:
        """Stores `data` under `key`; False if the folder does not take it (see `stats`)."""
        path = self._path(key)
        if path is None or len(data) + _HEADER.size > self.limit_bytes:
            return False
        try:
            self._write(path, _HEADER.pack(*_header(key, data)) + data)
        except OSError as error:
            with self._lock:
                self.stats.failed_writes += 1
                self.stats.writable = bool(self.stats.writable)
                self.stats.last_error = f"{type(error).__name__}: {error}"
            return False
        with self._lock:
            self.stats.writes += 1
            self.stats.writable = True
            self._written_since_trim += len(data) + _HEADER.size
        if self._trim_is_due():
            self.trim()
        return True

    def explain(self, key: str) -> Explanation:
        """Whether `key` would be answered now, and if not, why."""
        path = self._path(key)
        if path is None:
            return Explanation("disabled", "this platform names no folder for caches", None)
        try:
            data = _read_entry(path, key)
        except _Rejected as rejection:
            return Explanation(rejection.state, rejection.detail, path)
        return Explanation("present", f"{len(data)} bytes", path)

    def size_bytes(self) -> int:
        """Bytes of all entry files."""
        return sum(status.st_size for _, status in self._entries())

    def trim(self) -> int:
        """Removes the entries used longest ago until the limit holds; returns the bytes removed.

        Also removes temporary files that a killed writer left behind.
        """
        with self._lock:
            self._written_since_trim = 0
        entries = list(self._entries())
        total = sum(status.st_size for _, status in entries)
        removed = 0
        if total > self.limit_bytes:
            entries.sort(key=lambda entry: entry[1].st_mtime)
            for path, status in entries:
                if total - removed <= self.limit_bytes * _TRIM_TO:
                    break
                with contextlib.suppress(OSError):  # another process trims as well
                    path.unlink()
                removed += status.st_size
        self._remove_abandoned()
        self._mark_trimmed()
        return removed

    def clear(self) -> None:
        """Removes every entry."""
        for path, _ in self._entries():
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, key: str) -> Path | None:
        if not _KEY.fullmatch(key):
            raise ValueError(f"a cache key is 16 to 128 hexadecimal digits, not {key!r}")
        return None if self.folder is None else self.folder / key[:2] / key

    def _write(self, path: Path, content: bytes) -> None:
        unique = f"{os.getpid()}-{next(self._serial)}-{os.urandom(6).hex()}"
        temporary = f"{path.parent}{os.sep}{path.name[:16]}-{unique}{_TEMPORARY_SUFFIX}"
        try:
            try:
                _fill(temporary, content)
            except FileNotFoundError:
                self._make_folder(path)
                _fill(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _make_folder(self, path: Path) -> None:
        if self._private:
            # `makedirs` gives its mode to the last folder only: close the outermost one first.
            path.parent.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every file two levels down; files and folders that vanish meanwhile are passed over."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError), os.scandir(self.folder) as shards:
            for shard in shards:
                with contextlib.suppress(OSError), os.scandir(shard.path) as files:
                    for file in files:
                        with contextlib.suppress(OSError):
                            yield Path(file.path), file.stat()

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        return (entry for entry in self._files() if _KEY.fullmatch(entry[0].name))

    def _remove_abandoned(self) -> None:
        oldest = time.time() - _ABANDONED_AFTER_SECONDS
        for path, status in self._files():
            if path.name.endswith(_TEMPORARY_SUFFIX) and status.st_mtime < oldest:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _trim_is_due(self) -> bool:
        """Listing the folder costs milliseconds: once a day, and after much writing, is enough."""
        if self._written_since_trim > self.limit_bytes // 16:
            return True
        assert self.folder is not None
        try:
            age_seconds = time.time() - (self.folder / _TRIM_MARK).stat().st_mtime
        except OSError:
            return True
        return age_seconds > _TRIM_AFTER_SECONDS

    def _mark_trimmed(self) -> None:
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / _TRIM_MARK).touch()


def _fill(path: str, content: bytes) -> None:
    """A new file. 0o666 and the umask, unlike `tempfile`: a folder may be read by a group."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)


def _header(key: str, data: bytes) -> tuple[bytes, int, int, bytes]:
    return _MAGIC, FORMAT_VERSION, len(data), _checksum(key, data)


def _checksum(key: str, data: bytes) -> bytes:
    # The key is part of it: an entry copied to another name must not answer there.
    checksum = hashlib.blake2b(key.encode("ascii") + b"\0", digest_size=_CHECKSUM_BYTES)
    checksum.update(data)
    return checksum.digest()


def _read_entry(path: Path | None, key: str) -> bytes:
    """The payload of a sound entry; anything else raises `_Rejected`."""
    if path is None:
        raise _Rejected("absent", "no cache folder")
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _Rejected("absent", "no entry of this key was written, or it was trimmed") from None
    except OSError as error:
        raise _Rejected("unreadable", f"{type(error).__name__}: {error}") from None
    if len(content) < _HEADER.size:
        raise _Rejected("damaged", f"{len(content)} bytes, shorter than its header")
    magic, version, length, checksum = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise _Rejected("damaged", "not a graphc cache entry")
    if version != FORMAT_VERSION:
        raise _Rejected("version", f"entry format {version}, this graphc reads {FORMAT_VERSION}")
    data = content[_HEADER.size :]
    if len(data) != length:
        raise _Rejected("damaged", f"{len(data)} payload bytes where {length} were written")
    if _checksum(key, data) != checksum:
        raise _Rejected("damaged", "the checksum of key and payload does not match")
    return data


def _touch(path: Path | None) -> None:
    """Notes a use for trimming; fails silently where the folder may only be read."""
    with contextlib.suppress(OSError):
        if path is not None and time.time() - path.stat().st_mtime > _TOUCH_AFTER_SECONDS:
            os.utime(path)
