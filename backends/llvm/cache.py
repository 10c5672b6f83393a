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
import sys
import time
from contextlib import suppress
from functools import cache
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from .forks import lock_held_over_forks

if TYPE_CHECKING:
    from .cacheinfo import CacheInfo

#: The first bytes of every file; the number is that of this layout: magic, key, checksum, object.
_MAGIC = b"einloom object 1\n"
_KEY_LENGTH = 64
_CHECKSUM_LENGTH = 32
_HEADER_LENGTH = len(_MAGIC) + _KEY_LENGTH + _CHECKSUM_LENGTH

_ENTRY = r"[0-9a-f]{64}\.einloom"
_UNFINISHED = r"[0-9a-f]{64}\.[0-9a-f]{16}\.tmp"
#: What a writer leaves behind if it is killed is removed after this many seconds.
_ABANDONED_AFTER = 3600.0

DEFAULT_MAX_BYTES = 64 << 20

#: In so many parts what a folder may hold is stored; about once in each the folder is looked at.
_PARTS = 64

#: A file of the cache: the time of its last use, its path, its size.
_Entry: TypeAlias = tuple[float, str, int]

#: Held while a count changes. Taken inside `target.LOCK`, never around it.
COUNTING = lock_held_over_forks()


def _flags(*names: str) -> int:
    """The flags of os.open that this system has, of those named."""
    return sum(getattr(os, name, 0) for name in (*names, "O_CLOEXEC", "O_BINARY"))


# A link is never followed, and opening a pipe that lies there does not wait for a writer.
_READ_FLAGS = _flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK")
_WRITE_FLAGS = _flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_NOFOLLOW")


class ObjectCache:
    """A folder of objects of `max_bytes` in all, or little more; `folder=None` keeps nothing."""

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
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            header = _MAGIC + key.encode() + _sha256()(payload).digest()
            path = _path(self.folder, key)
            write_atomically(path, header + payload, mode=0o600, temporary_stem=key)
            self._count("stores")
            if self._is_due(key, size):
                self._make_room()
        except OSError:
            self._count("failures")

    def info(self) -> CacheInfo:
        """What is in the folder now, and what this process has done with it."""
        from .cacheinfo import CacheInfo

        if self.folder is None:
            return CacheInfo(None)
        sizes = [size for _, _, size in self._entries(_ENTRY)]
        with COUNTING:
            return CacheInfo(
                self.folder, len(sizes), sum(sizes), self.max_bytes, **dict(self._counts)
            )

    def clear(self) -> int:
        """Removes every object, and nothing else from the folder; how many there were."""
        for _, path, _ in self._entries(_UNFINISHED):
            self._remove(path)
        return sum(self._remove(path) for _, path, _ in self._entries(_ENTRY))

    def _count(self, what: str) -> None:
        with COUNTING:
            self._counts[what] += 1

    def _entries(self, names: str) -> list[_Entry]:
        """The regular files with such names, the least recently used first."""
        found: list[_Entry] = []
        with suppress(OSError), os.scandir(self.folder) as listing:
            for item in listing:
                if re.fullmatch(names, item.name):
                    with suppress(OSError):
                        status = item.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found.append((status.st_mtime, item.path, status.st_size))
        return sorted(found)

    def _is_due(self, key: str, size: int) -> bool:
        """Whether storing so many bytes is the time to look at all that is in the folder.

        That takes longer than to compile most objects, once there are thousands. The die is the
        key, a digest: all processes together look about once in each part.
        """
        return int(key[:8], 16) * self.max_bytes < _PARTS * size << 32

    def _make_room(self) -> None:
        now = time.time()
        for used, path, _ in self._entries(_UNFINISHED):
            if now - used > _ABANDONED_AFTER:
                self._remove(path)
        entries = self._entries(_ENTRY)
        total = sum(size for _, _, size in entries)
        # The last is what was just stored. A file that is not ours stays, and does not count.
        for _, path, size in entries[:-1]:
            if total <= self.max_bytes:
                break
            if self._remove(path):
                self._count("evicted")
            total -= size

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
    if contents is None or contents[: len(_MAGIC)] != _MAGIC:
        return None
    header, payload = contents[:_HEADER_LENGTH], contents[_HEADER_LENGTH:]
    if header[len(_MAGIC) :] != key.encode() + _sha256()(payload).digest():
        return None
    return payload


@cache
def _sha256() -> Any:
    """`hashlib.sha256`, but not by OpenSSL, which takes 5 ms to load (as in `random`)."""
    for name in ("_sha2", "_sha256"):  # from CPython 3.12 on; before
        with suppress(ImportError):
            return import_module(name).sha256
    return import_module("hashlib").sha256


def key_of(*parts: str) -> str:
    """The key of an object that depends on exactly these texts, in this order."""
    digest = _sha256()(_MAGIC)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    key: str = digest.hexdigest()
    return key


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
        _current = ObjectCache(os.path.join(_user_cache_dir(), "objects"))
    return _current


def _user_cache_dir() -> str:
    """`platformdirs.user_cache_dir`, which takes 8 ms to load; on Linux it is this."""
    if sys.platform != "linux":
        from platformdirs import user_cache_dir

        return user_cache_dir("einloom", appauthor=False)
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = given if os.path.isabs(given) else os.path.expanduser("~/.cache")
    return os.path.join(home, "einloom")


def configure(
    folder: str | PathLike[str] | None, max_bytes: int = DEFAULT_MAX_BYTES
) -> ObjectCache:
    """From now on keeps objects in `folder` (None: nowhere), `max_bytes` of them or little more."""
    global _current
    _current = ObjectCache(folder, max_bytes)
    return _current
