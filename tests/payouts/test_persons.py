"""Who is who: one person has many ways to write a name, and none of them makes two persons."""

import unicodedata

import pytest

from payouts.batches.batch import BatchError
from payouts.batches.rows import Act, act_of_person
from payouts.persons import CHAIN, is_name, same_person

CYRILLIC_A, ARMENIAN_N, FULLWIDTH, MATHEMATICAL = "\N{CYRILLIC SMALL LETTER A}", "\u0578", 0xFEE0, 0x1D41A
COMBINING, ZERO_WIDTH, NO_BREAK = "\N{COMBINING ACUTE ACCENT}", "\N{ZERO WIDTH SPACE}", "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    "other",
    [
        "ANN",
        "Ann",
        " ann ",
        "a n n",
        f"an{NO_BREAK}n",
        f"an{ZERO_WIDTH}n",
        "ann.",
        "a-n_n",
        f"a{COMBINING}nn",
        unicodedata.normalize("NFC", f"a{COMBINING}nn"),
        "".join(chr(ord(it) + FULLWIDTH) for it in "ann"),
        chr(MATHEMATICAL) + "nn",
        f"{CYRILLIC_A}nn",
        f"a{ARMENIAN_N * 2}",
    ],
)
def test_one_person_is_not_two_by_writing_the_name_otherwise(other: str) -> None:
    assert same_person("ann", other)
    assert same_person(other, "ann")


def test_letters_and_digits_that_look_alike_are_alike() -> None:
    assert same_person("bill", "BiIl")
    assert same_person("bob", "b0b")
    assert same_person("al", "a1")
    assert same_person("сое", "coe")  # noqa: RUF001


@pytest.mark.parametrize("other", ["bob", "anna", "an", "hann"])
def test_other_persons_are_others(other: str) -> None:
    assert not same_person("ann", other)


@pytest.mark.parametrize("name", ["ann", "Łukasz", "Иван Петров", "o'neill", "山田太郎", "x" * 64])
def test_people_are_called_as_they_are(name: str) -> None:
    assert is_name(name)
    assert Act(name, 1).by == name


@pytest.mark.parametrize(
    "name", ["", " ann", "ann ", "a\nb", "x" * 65, "!!", "-", f"{CYRILLIC_A}nn", f"an{ZERO_WIDTH}n", "\ud800"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BatchError, match="not a person's name"):
        Act(name, 1)


@pytest.mark.parametrize("name", ["chain", "CHAIN", "c h a i n", "cha1n"])
def test_nobody_is_called_as_what_the_books_do_by_themselves(name: str) -> None:
    with pytest.raises(BatchError, match="not a person's name"):
        act_of_person(name, 1)
    assert Act(CHAIN, 1).by == CHAIN
