"""The cache of compiled objects: right, or a miss, whatever lies in the folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from einloom.backends.llvm.cache import ObjectCache, configure, current, key_of, write_atomically

KEY = key_of("a kernel")
OTHER = key_of("another kernel")
OBJECT = bytes(range(256)) * 5


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "objects")


def stored_file(cache: ObjectCache, key: str = KEY) -> Path:
    cache.store(key, OBJECT)
    assert cache.folder is not None
    return Path(cache.folder) / f"{key}.einloom"


def test_what_was_stored_is_loaded(cache: ObjectCache) -> None:
    assert cache.load(KEY) is None
    cache.store(KEY, OBJECT)
    cache.store(OTHER, b"")
    assert cache.load(KEY) == OBJECT
    assert cache.load(OTHER) == b""
    info = cache.info()
    assert (info.files, info.hits, info.misses, info.stores) == (2, 2, 1, 2)
    assert (info.rejected, info.failures, info.evicted) == (0, 0, 0)
    assert info.bytes > len(OBJECT)
    assert "2 files" in str(info)


def test_another_process_finds_it(cache: ObjectCache) -> None:
    cache.store(KEY, OBJECT)
    assert cache.folder is not None
    assert ObjectCache(cache.folder).load(KEY) == OBJECT


def test_the_key_tells_every_part_apart() -> None:
    keys = [key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("abc", ""), key_of()]
    assert len(set(keys)) == len(keys)


def test_no_folder_keeps_nothing() -> None:
    cache = ObjectCache(None)
    cache.store(KEY, OBJECT)
    assert cache.load(KEY) is None
    assert cache.clear() == 0
    assert cache.info().folder is None
    assert str(cache.info()) == "object cache: off"


def test_any_flipped_byte_is_noticed(cache: ObjectCache) -> None:
    path = stored_file(cache)
    whole = path.read_bytes()
    # every byte of the header, and some of the object
    positions = [*range(len(whole) - len(OBJECT) + 8), len(whole) // 2, len(whole) - 1]
    for position in positions:
        broken = bytearray(whole)
        broken[position] ^= 0x10
        path.write_bytes(broken)
        assert cache.load(KEY) is None, position
    assert cache.info().rejected == len(positions)
    cache.store(KEY, OBJECT)
    assert cache.load(KEY) == OBJECT


def test_any_truncation_is_noticed(cache: ObjectCache) -> None:
    path = stored_file(cache)
    whole = path.read_bytes()
    for length in (0, 1, 16, 17, 80, 112, 113, 114, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.load(KEY) is None, length
    path.write_bytes(whole + b"\0")
    assert cache.load(KEY) is None
    cache.store(KEY, OBJECT)
    assert cache.load(KEY) == OBJECT


def test_the_object_of_another_key_is_refused(cache: ObjectCache) -> None:
    os.rename(stored_file(cache, OTHER), stored_file(cache, KEY))
    assert cache.load(KEY) is None
    assert cache.info().rejected == 1


def test_a_file_that_others_could_have_written_is_refused(cache: ObjectCache) -> None:
    path = stored_file(cache)
    os.chmod(path, 0o622)
    assert cache.load(KEY) is None
    cache.store(KEY, OBJECT)
    assert cache.load(KEY) == OBJECT
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(cache: ObjectCache, tmp_path: Path) -> None:
    path = stored_file(cache)
    elsewhere = tmp_path / "elsewhere"
    os.rename(path, elsewhere)
    os.symlink(elsewhere, path)
    assert cache.load(KEY) is None
    assert cache.clear() == 0
    assert elsewhere.exists()
    before = elsewhere.read_bytes()
    cache.store(KEY, b"new")
    assert cache.load(KEY) == b"new"
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_block(cache: ObjectCache) -> None:
    path = stored_file(cache)
    path.unlink()
    os.mkfifo(path)
    assert cache.load(KEY) is None
    assert cache.clear() == 0


def test_a_folder_in_the_place_of_a_file(cache: ObjectCache) -> None:
    path = stored_file(cache)
    path.unlink()
    (path / "inside").mkdir(parents=True)
    assert cache.load(KEY) is None
    cache.store(KEY, OBJECT)
    assert cache.load(KEY) is None
    assert cache.info().failures == 1
    assert cache.clear() == 0
    assert (path / "inside").is_dir()
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    place = tmp_path / "objects"
    place.write_text("mine")
    for folder in (place, place / "below"):
        cache = ObjectCache(folder)
        cache.store(KEY, OBJECT)
        assert cache.load(KEY) is None
        assert cache.info().failures == 2
        assert cache.info().files == 0
        assert cache.clear() == 0
    assert place.read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("function", ["open", "replace", "makedirs", "utime", "scandir", "unlink"])
def test_a_system_that_refuses(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    cache.store(OTHER, OBJECT)

    def refuse(*args: Any, **options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse)
        assert cache.load(OTHER) in (None, OBJECT)
        cache.store(KEY, OBJECT)
        assert cache.load(KEY) in (None, OBJECT)
        cache.info()
        cache.clear()
    refused = cache.info().failures
    assert (refused > 0) == (function in ("open", "replace", "makedirs"))
    cache.store(KEY, OBJECT)
    assert cache.load(KEY) == OBJECT
    assert cache.info().failures == refused


def test_a_full_disk_leaves_no_half_file(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored_file(cache)

    def full(*args: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        cache.store(OTHER, OBJECT)
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert cache.info().failures == 1


def test_an_interrupted_write_leaves_nothing(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored_file(cache)

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.store(OTHER, OBJECT)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, max_bytes=10 * (len(OBJECT) + 113))
    keys = [key_of(str(number)) for number in range(14)]
    for number, key in enumerate(keys[:10]):
        cache.store(key, OBJECT)
        os.utime(tmp_path / f"{key}.einloom", (number, number))
    assert cache.info().evicted == 0
    assert cache.load(keys[0]) == OBJECT  # used now, so no longer the oldest
    for key in keys[10:]:
        cache.store(key, OBJECT)
    info = cache.info()
    assert (info.files, info.evicted) == (10, 4)
    assert info.bytes <= cache.max_bytes
    kept = [key for key in keys if cache.load(key) is not None]
    assert kept == [keys[0], *keys[5:]]


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "objects", max_bytes=100)
    cache.store(KEY, OBJECT)
    assert not (tmp_path / "objects").exists()


def test_clearing_removes_only_what_is_ours(cache: ObjectCache) -> None:
    path = stored_file(cache)
    cache.store(OTHER, OBJECT)
    folder = path.parent
    foreign = [
        folder / "notes.txt",
        folder / f"{KEY}.txt",
        folder / f"{KEY[:-1]}.einloom",
        folder / f"x{OTHER}.einloom",
        folder / f"{key_of('foreign')}.einloom",  # our name, but not our contents
    ]
    for file in foreign:
        file.write_text("not an object")
    unfinished = folder / f"{KEY}.0123456789abcdef.tmp"
    unfinished.write_bytes(b"einloom ob")
    assert cache.clear() == 2
    assert sorted(folder.iterdir()) == sorted(foreign)
    assert cache.load(KEY) is None


def test_foreign_files_are_not_evicted(tmp_path: Path) -> None:
    foreign = tmp_path / f"{key_of('foreign')}.einloom"
    foreign.write_text("x" * 5000)
    os.utime(foreign, (0, 0))
    cache = ObjectCache(tmp_path, max_bytes=3 * (len(OBJECT) + 113))
    for number in range(5):
        cache.store(key_of(str(number)), OBJECT)
    assert foreign.exists()
    assert cache.info().files == 4


def test_a_folder_of_many_is_seldom_gone_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObjectCache(tmp_path, max_bytes=640 * 113)
    scan, looked = os.scandir, list[int]()

    def counted(*given: Any) -> Any:
        looked.append(1)
        return scan(*given)

    monkeypatch.setattr(os, "scandir", counted)
    for number in range(1200):
        cache.store(key_of(str(number)), b"")
    scans = len(looked)
    info = cache.info()
    assert 1 < scans < 1200 * 2 / 5
    assert info.evicted > 0
    assert 0.9 < info.bytes / cache.max_bytes < 1.1


def test_what_a_killed_writer_left_goes_after_a_while(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, max_bytes=10 * (len(OBJECT) + 113))
    folder = stored_file(cache).parent
    old, new = (folder / f"{KEY}.{digit * 16}.tmp" for digit in "ab")
    for file in (old, new):
        file.write_bytes(b"einloom object 1\n")
    os.utime(old, (0, 0))
    cache.store(OTHER, OBJECT)
    assert not old.exists()
    assert new.exists()


def test_many_threads_on_one_key(cache: ObjectCache) -> None:
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(50):
            cache.store(KEY, OBJECT)
            found = cache.load(KEY)
            if found is not None and found != OBJECT:
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    info = cache.info()
    assert (info.stores, info.failures, info.files) == (400, 0, 1)


_RACER = """
import sys
from einloom.backends.llvm.cache import ObjectCache
cache = ObjectCache(sys.argv[1], max_bytes=4000)
for number in range(60):
    key = f"{number % 7:064x}"
    payload = (key * 11).encode()
    found = cache.load(key)
    assert found is None or found == payload, found
    cache.store(key, payload)
assert cache.info().failures == 0, cache.info()
assert cache.info().rejected == 0, cache.info()
"""


def test_many_processes_with_too_little_room(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACER, tmp_path], stderr=subprocess.PIPE)
        for _ in range(8)
    ]
    for racer in racers:
        _, errors = racer.communicate(timeout=50)
        assert racer.returncode == 0, errors.decode()
    assert all(path.name.endswith(".einloom") for path in tmp_path.iterdir())


def test_the_users_folder_is_used_and_can_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from einloom.backends.llvm import cache as module

    monkeypatch.setattr(module, "_current", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert current().folder == str(tmp_path / "einloom" / "objects")
    assert not list(tmp_path.iterdir())  # asking for it makes nothing
    assert configure(tmp_path / "other", max_bytes=7) is current()
    assert (current().folder, current().max_bytes) == (str(tmp_path / "other"), 7)
    configure(None)
    assert current().folder is None


def test_write_atomically_keeps_the_old_file_if_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.o"
    write_atomically(path, b"old")

    def refuse(*args: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="Input/output"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
