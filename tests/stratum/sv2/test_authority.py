"""The pool's key: its file, and what machines are told of it."""

from pathlib import Path

import pytest

from stratum.sv2.authority import BadAuthority, base58check, new_authority, public_text, read_authority
from tests.stages.sv2_machine import authority_of

# The specification's, 4.7.1.
RAW = bytes.fromhex("7663700097 9c1c11af0c300bcd8c7fe48610fce9b9c11e3daee35ae0b08a7455".replace(" ", ""))
TEXT = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh"


def test_a_key_is_written_as_the_specification_writes_it() -> None:
    assert public_text(RAW) == TEXT
    assert authority_of(TEXT) == RAW


def test_leading_zeros_are_kept() -> None:
    assert base58check(bytes(21)) == "1111111111111111111114oLvT2"  # the address of nobody


def test_a_new_key_is_in_a_file_of_the_owners_alone_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "authority"
    public = new_authority(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_text(read_authority(path).x_only) == public
    with pytest.raises(FileExistsError):
        new_authority(path)
    assert public_text(read_authority(path).x_only) == public


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("11" * 32, 0o640, "can be read by others"),
        ("11" * 31, 0o600, "holds no authority key"),
        ("00" * 32, 0o600, "holds no authority key"),
        ("ff" * 32, 0o600, "holds no authority key"),
        ("zz" * 32, 0o600, "holds no authority key"),
        ("", 0o600, "holds no authority key"),
        ("11" * 4_000, 0o600, "holds no authority key"),
    ],
)
def test_a_file_that_is_no_key_is_refused_in_words(tmp_path: Path, text: str, mode: int, words: str) -> None:
    path = tmp_path / "authority"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(BadAuthority, match=words) as refused:
        read_authority(path)
    assert "11" * 8 not in str(refused.value), "what may be a secret is not said"


def test_a_file_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(BadAuthority, match="cannot read"):
        read_authority(tmp_path / "none")
