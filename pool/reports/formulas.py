"""Text that a spreadsheet takes for a formula gets an apostrophe in front of it: whoever names a machine
`=HYPERLINK(...)` would otherwise have a program in the accountant's file.

Must not know: whose text it is.
"""

import re
from typing import Final

from pool.reports.figures import visible

# What a spreadsheet takes for a formula: at the beginning of a cell, and behind what it may take for the end
# of one, which in half of the world is a semicolon. An apostrophe too: the one we add can be taken off.
FORMULA: Final = re.compile(r"""(^|[;,|\t])(["\s]*)(?=[=+\-@'\uff1d\uff0b\uff0d\uff20])""")


def no_formula(value: str) -> str:
    """The text for a cell, with what has no shape escaped."""
    shown = visible(value)
    return shown if _is_number(shown) else FORMULA.sub(r"\1\2'", shown)


def _is_number(text: str) -> bool:
    """-1.25: a negative figure, not a formula."""
    whole, _, rest = text.removeprefix("-").partition(".")
    return text.isascii() and whole.isdigit() and (rest.isdigit() or not rest)
