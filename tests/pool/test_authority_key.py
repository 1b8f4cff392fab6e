"""The file of the key that machines of Stratum V2 know the pool by."""

from pathlib import Path

import pytest

from pool.authority_key import make_authority, read_authority
from pool.settings_file import BadConfig
from stratum.sv2.authority import public_text


def test_a_new_key_is_in_a_file_of_the_owners_alone_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "authority"
    public = make_authority(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_text(read_authority(path).x_only) == public
    with pytest.raises(BadConfig, match="already: machines know the pool"):
        make_authority(path)
    assert public_text(read_authority(path).x_only) == public


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("11" * 32, 0o640, "others may read"),
        ("11" * 31, 0o600, "is no key"),
        ("00" * 32, 0o600, "is no key"),
        ("ff" * 32, 0o600, "is no key"),
        ("zz" * 32, 0o600, "is no key"),
        ("", 0o600, "is no key"),
        ("11" * 4_000, 0o600, "is no key"),
    ],
)
def test_a_file_that_is_no_key_is_refused_in_words(tmp_path: Path, text: str, mode: int, words: str) -> None:
    path = tmp_path / "authority"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(BadConfig, match=words) as refused:
        read_authority(path)
    assert "11" * 8 not in str(refused.value), "what may be a secret is not said"


def test_a_file_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="No such file"):
        read_authority(tmp_path / "none")
