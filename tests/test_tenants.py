"""Worker names as hostile miners write them: nothing that cannot be printed comes through.

What names mean is in test_registry.py.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.registry import parse_worker_name


@pytest.mark.parametrize("name", ["acme.c07.a%0Ab", "acme.c07.%00", "acme.c07.%1B[31m", "acme.c07.%E2%80%AE"])
def test_escapes_do_not_smuggle_what_cannot_be_printed(name: str) -> None:
    assert parse_worker_name(name) == tuple(name.split("."))


@settings(derandomize=True, deadline=None)
@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=127))
def test_every_printable_name_has_printable_parts(name: str) -> None:
    assert "".join(parse_worker_name(name)).isprintable()
