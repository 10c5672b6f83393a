"""The tools of the tests are tested too."""

import os
import tempfile
from pathlib import Path

import pytest

from .support import Golden


def test_a_golden_file_is_held_to_the_letter(tmp_path: Path) -> None:
    Golden(tmp_path, renew=True)("room/case.txt", "a\nb\n")
    check = Golden(tmp_path, renew=False)
    check("room/case.txt", "a\nb\n")
    with pytest.raises(AssertionError):
        check("room/case.txt", "a\nb")
    with pytest.raises(AssertionError, match="no golden file room/other"):
        check("room/other.txt", "")


def test_the_users_cache_folder_is_out_of_reach() -> None:
    assert Path(os.environ["XDG_CACHE_HOME"]).is_relative_to(tempfile.gettempdir())
