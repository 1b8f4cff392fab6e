"""Who is who: two persons are two names that nobody can take for one.

Where a second person is needed (a batch, a transaction that is no payout, a reversal) the two names are
compared by what is left of them without case, width, accents, spaces and punctuation, and with letters and
digits that look alike taken for the same. Names that differ in nothing else are one person's; that two
people with such names cannot check each other is the lesser evil.

Whether two names that look nothing like each other are one person's is known where users are.

Invariants: pure. Must not know: who may do what. Sources: Unicode UAX 15 (NFKC), UTS 39 (confusables).
"""

import unicodedata

NAME_CHARACTERS_MAX = 64
# What the books do by themselves is done by this one: no person has this name.
CHAIN = "chain"

# Lower-case letters and digits, and the Latin letter that each looks like (some only in capitals): Cyrillic,
# Greek, Armenian, and what Latin has more than once. A name is of one alphabet where it has Latin letters.
_LOOKS_LIKE = {
    **str.maketrans("авгԁеһнікӏмопрсѕтуѵхјԛԝ", "abrdehhlklmonpcstyvxjqw"),
    **str.maketrans("αβγεηικνορτυχω", "abyenlkvoptuxw"),
    **str.maketrans("հոօսց", "hnoug"),  # noqa: RUF001
    **str.maketrans("01iıɩɑɡłøđ", "ollllaglod"),  # noqa: RUF001
}


def folded(name: str) -> str:
    """What is left of a name to compare it by; nothing of one without letters and digits."""
    same_case = unicodedata.normalize("NFKC", name).casefold()
    letters = (it for it in unicodedata.normalize("NFKD", same_case) if it.isalnum())
    return "".join(letters).translate(_LOOKS_LIKE)


def same_person(one: str, other: str) -> bool:
    """Whether the two names may be one person's."""
    return folded(one) == folded(other)


def is_name(name: str) -> bool:
    """Whether a person can be called that: printable, not too long, and of one alphabet where it is Latin."""
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or not name.isprintable() or name != name.strip():
        return False
    latin = [_is_latin(it) for it in unicodedata.normalize("NFKC", name) if it.isalpha()]
    return bool(folded(name)) and (all(latin) or not any(latin))


def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN ", "FEMININE ", "MASCULINE "))
