"""Whose name stands in the history: the account's, whatever somebody typed."""

import os
import pwd

import pytest

from pool.cli.operator import operator


def test_the_environment_has_no_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("USER", "LOGNAME", "SUDO_USER", "USERNAME", "LNAME"):
        monkeypatch.setenv(variable, "somebody-else")
    assert operator() == pwd.getpwuid(os.geteuid()).pw_name != "somebody-else"
