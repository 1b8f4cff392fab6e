"""Who changes something, for the history: the account that the operating system knows this process by.

Never from the environment: USER, LOGNAME and SUDO_USER are what somebody typed, and with them one person
would be two. Behind `sudo` it is the account that was changed to; who may do that is in sudo's own log. A
pool that runs asks the kernel the same of whoever connects (`pool.admin.server`).
"""

import os


def person(by: str | None) -> str:
    """Who does it: whoever runs this, where nobody is named."""
    return by if by is not None else operator()


def operator() -> str:
    """The account's name; its number where it has no name here."""
    from pool.admin.operators import operator_of  # what it takes to know users is what help does not

    return operator_of(os.geteuid())
