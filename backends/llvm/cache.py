"""Compiled objects on disk, shared by all processes of a user.

One file an object, named after the key: the SHA-256 of everything that the object depends on. Each
carries its key and a checksum, so that whatever else may lie under that name is a miss, and is
written anew. A file appears whole or not at all. Where the folder cannot be read or written the
compiler works without it, and counts that (`info()`).

Objects are code: only a file that nobody but this user (or root) can have written is loaded.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike

from .forks import lock_held_over_forks

#: The first bytes of every file; the number is that of this layout: magic, key, checksum, object.
_MAGIC = b"einloom object 1\n"
_KEY_LENGTH = 64
_CHECKSUM_LENGTH = 32
_HEADER_LENGTH = len(_MAGIC) + _KEY_LENGTH + _CHECKSUM_LENGTH

_ENTRY = re.compile(r"[0-9a-f]{64}\.einloom")
_UNFINISHED = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}\.tmp")
#: What a writer leaves behind if it is killed is removed after this many seconds.
_ABANDONED_AFTER = 3600.0

DEFAULT_MAX_BYTES = 64 << 20

#: Held while a count changes. Taken inside `target.LOCK`, never around it.
COUNTING = lock_held_over_forks()


def _flags(*names: str) -> int:
    """The flags of os.open that this system has, of those named."""
    return sum(getattr(os, name, 0) for name in (*names, "O_CLOEXEC", "O_BINARY"))


# A link is never followed, and opening a pipe that lies there does not wait for a writer.
_READ_FLAGS = _flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK")
_WRITE_FLAGS = _flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_NOFOLLOW")


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What is in the folder now, and what this process has done with it.

    `hits`, `misses`: loads that found an object, and that did not. `rejected`: misses because of a
    damaged or foreign file. `stores`, `evicted`: objects written, and removed to make room.
    `failures`: times that the system refused to read or write.
    """

    folder: str | None
    files: int = 0
    bytes: int = 0
    max_bytes: int = 0
    hits: int = 0
    misses: int = 0
    rejected: int = 0
    stores: int = 0
    evicted: int = 0
    failures: int = 0

    def __str__(self) -> str:
        if self.folder is None:
            return "object cache: off"
        return (
            f"object cache: {self.folder}\n"
            f"  {self.files} files, {self.bytes} of at most {self.max_bytes} bytes\n"
            f"  this process: {self.hits} hits, {self.misses} misses ({self.rejected} damaged), "
            f"{self.stores} stored, {self.evicted} evicted, {self.failures} failures"
        )


class ObjectCache:
    """A folder of objects of at most `max_bytes` in all; `folder=None` keeps nothing."""

    def __init__(
        self, folder: str | PathLike[str] | None, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self.folder = None if folder is None else os.path.abspath(folder)
        self.max_bytes = max_bytes
        names = ("hits", "misses", "rejected", "stores", "evicted", "failures")
        self._counts: dict[str, int] = dict.fromkeys(names, 0)

    def load(self, key: str) -> bytes | None:
        """The object stored under `key`, or None."""
        if self.folder is None:
            return None
        path = _path(self.folder, key)
        payload = None
        try:
            payload = _payload(key, _read(path))
            if payload is None:
                self._count("rejected")
        except FileNotFoundError:
            pass
        except OSError:
            self._count("failures")
        self._count("misses" if payload is None else "hits")
        if payload is not None:
            with suppress(OSError):  # a folder that is only readable serves all the same
                os.utime(path)  # the time of last use, by which objects are evicted
        return payload

    def store(self, key: str, payload: bytes) -> None:
        """Keeps an object under `key`, in the place of whatever was there."""
        size = _HEADER_LENGTH + len(payload)
        if self.folder is None or size > self.max_bytes:
            return
        from hashlib import sha256

        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            header = _MAGIC + key.encode() + sha256(payload).digest()
            path = _path(self.folder, key)
            write_atomically(path, header + payload, mode=0o600, temporary_stem=key)
            self._count("stores")
            self._make_room()
        except OSError:
            self._count("failures")

    def info(self) -> CacheInfo:
        """What is in the folder now, and what this process has done with it."""
        if self.folder is None:
            return CacheInfo(None)
        sizes = [entry.size for entry in self._entries(_ENTRY)]
        with COUNTING:
            return CacheInfo(
                self.folder, len(sizes), sum(sizes), self.max_bytes, **dict(self._counts)
            )

    def clear(self) -> int:
        """Removes every object, and nothing else from the folder; how many there were."""
        for entry in self._entries(_UNFINISHED):
            self._remove(entry.path)
        return sum(self._remove(entry.path) for entry in self._entries(_ENTRY))

    def _count(self, what: str) -> None:
        with COUNTING:
            self._counts[what] += 1

    def _entries(self, names: re.Pattern[str]) -> list[_Entry]:
        """The regular files with such names, the least recently used first."""
        found: list[_Entry] = []
        with suppress(OSError), os.scandir(self.folder) as listing:
            for item in listing:
                if names.fullmatch(item.name):
                    with suppress(OSError):
                        status = item.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found.append(_Entry(status.st_mtime, item.path, status.st_size))
        return sorted(found, key=lambda entry: entry.used)

    def _make_room(self) -> None:
        now = time.time()
        for entry in self._entries(_UNFINISHED):
            if now - entry.used > _ABANDONED_AFTER:
                self._remove(entry.path)
        entries = self._entries(_ENTRY)
        total = sum(entry.size for entry in entries)
        # The last is what was just stored. A file that is not ours stays, and does not count.
        for entry in entries[:-1]:
            if total <= self.max_bytes:
                break
            if self._remove(entry.path):
                self._count("evicted")
            total -= entry.size

    def _remove(self, path: str) -> bool:
        """Removes a file if it is one of ours; whether it did."""
        try:
            start = _read(path, len(_MAGIC))
            if start is None or not _MAGIC.startswith(start):
                return False
            os.unlink(path)
        except OSError:
            return False  # another process was quicker, or the folder is read-only
        return True


@dataclass(frozen=True, slots=True)
class _Entry:
    used: float
    path: str
    size: int


def _path(folder: str, key: str) -> str:
    return os.path.join(folder, f"{key}.einloom")


def _read(path: str, length: int = -1) -> bytes | None:
    """The first `length` bytes of a file; None if it is no file that we trust to be ours."""
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except FileNotFoundError:
        raise
    except OSError:
        if os.path.islink(path) or os.path.isdir(path):
            return None
        raise
    try:
        status = os.fstat(descriptor)
        mine = not hasattr(os, "geteuid") or status.st_uid in (0, os.geteuid())
        if not stat.S_ISREG(status.st_mode) or not mine or status.st_mode & 0o022:
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(length)
    finally:
        os.close(descriptor)


def _payload(key: str, contents: bytes | None) -> bytes | None:
    """The object in a file's contents, if it is whole and the one meant by `key`."""
    from hashlib import sha256

    if contents is None or contents[: len(_MAGIC)] != _MAGIC:
        return None
    header, payload = contents[:_HEADER_LENGTH], contents[_HEADER_LENGTH:]
    if header[len(_MAGIC) :] != key.encode() + sha256(payload).digest():
        return None
    return payload


def key_of(*parts: str) -> str:
    """The key of an object that depends on exactly these texts, in this order."""
    from hashlib import sha256

    digest = sha256(_MAGIC)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def write_atomically(
    path: str | PathLike[str], contents: bytes, mode: int = 0o666, temporary_stem: str = ".einloom"
) -> None:
    """Writes a file that appears whole or not at all; what was there before is replaced.

    Args:
        path: the file; a link there is replaced, not followed.
        contents: what to write.
        mode: the permissions, less the process's umask.
        temporary_stem: the first part of the name that it bears until it is whole.

    Raises:
        OSError: the system refused.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = os.path.join(folder, f"{temporary_stem}.{os.urandom(8).hex()}.tmp")
    try:
        descriptor = os.open(temporary, _WRITE_FLAGS, mode)
    except OSError as error:
        error.filename = os.fspath(path)  # the name that the caller knows
        raise
    try:
        with open(descriptor, "wb") as file:
            file.write(contents)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


_current: ObjectCache | None = None


def current() -> ObjectCache:
    """The cache in use: at first, one in the user's cache folder (`platformdirs`)."""
    global _current
    if _current is None:
        from platformdirs import user_cache_dir

        _current = ObjectCache(os.path.join(user_cache_dir("einloom", appauthor=False), "objects"))
    return _current


def configure(
    folder: str | PathLike[str] | None, max_bytes: int = DEFAULT_MAX_BYTES
) -> ObjectCache:
    """From now on keeps objects in `folder` (None: nowhere), at most `max_bytes` of them."""
    global _current
    _current = ObjectCache(folder, max_bytes)
    return _current
