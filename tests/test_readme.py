"""The README's samples run as they stand there."""

from __future__ import annotations

import re
import shlex

import pytest

from einloom.__main__ import main

from .support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_sample(capsys: pytest.CaptureFixture[str]) -> None:
    (sample,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(sample, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "Y[b,i,k] = T0[b,i,j] * T1[b,j,k]" in printed
    assert "np.matmul(T0, T1" in printed


def test_the_command_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^einloom (.*) +#", README, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        assert main(shlex.split(command)) == 0
        shown = "GM[p] = max[m] QK[m,p]" if ".ein" in command else "Y[b,i,k] = T0[b,i,j]"
        if command.startswith("passes "):
            shown = "pass 2 over M: QK is read again"
        if command.startswith("pack "):
            shown = "not chosen:"
        assert shown in capsys.readouterr().out
