"""What tests share."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Golden:
    """Compares whole outputs with files; `pytest --update-golden` writes them instead.

    A test takes the fixture of that type and calls it: `golden("parser/no_arrow.txt", text)` holds
    `text` to tests/golden/parser/no_arrow.txt. The diff of a renewal says what a change does.
    """

    folder: Path
    renew: bool

    def __call__(self, name: str, text: str) -> None:
        path = self.folder / name
        if self.renew:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        assert path.is_file(), f"no golden file {name}: read what `--update-golden` writes, keep it"
        assert text == path.read_text("utf-8")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs `work(0)`, `work(1)`, ... at the same time; raises what one of them raised."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(old)
    if failures:
        raise failures[0]
