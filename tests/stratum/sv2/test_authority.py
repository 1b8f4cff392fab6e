"""The pool's key, as machines are told it."""

from stratum.sv2.authority import base58check, public_text
from tests.stages.sv2_machine import authority_of

# The specification's, 4.7.1.
RAW = bytes.fromhex("7663700097 9c1c11af0c300bcd8c7fe48610fce9b9c11e3daee35ae0b08a7455".replace(" ", ""))
TEXT = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh"


def test_a_key_is_written_as_the_specification_writes_it() -> None:
    assert public_text(RAW) == TEXT
    assert authority_of(TEXT) == RAW


def test_leading_zeros_are_kept() -> None:
    assert base58check(bytes(21)) == "1111111111111111111114oLvT2"  # the address of nobody
