"""What `ObjectCache.info()` tells; not loaded until it is asked for."""

from __future__ import annotations

from dataclasses import dataclass


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
