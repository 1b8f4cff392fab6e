"""A bar for who waits at a terminal, on standard error; nothing for who does not."""

import io
import sys
from pathlib import Path

import pytest

from payouts.audit.verify import audit, rows_to_walk
from pool.cli.progress import progress
from tests.fixtures.databases import store_in
from tests.stages.payouts import add_tenant, credit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_and_nothing_of_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    with progress("verifying [the] books", 10) as told:
        told(5)
        told(10)
        told(11)
    assert "verifying [the] books" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")  # up, and the line is erased


def test_a_pipe_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("verifying the books", 10) as told:
        told(5)
    assert capsys.readouterr() == ("", "")


def test_an_audit_tells_how_many_rows_it_has_walked(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with store.write() as connection:
        tenant_id = add_tenant(connection, "acme")
        for number in range(5):
            credit(connection, tenant_id, 1000, f"work {number}")
    heard: list[int] = []
    with store.read() as connection:
        assert audit(connection, told=heard.append).wrong is None
        assert heard[-1] == rows_to_walk(connection) > 5
    assert heard == sorted(heard)
    store.close()
