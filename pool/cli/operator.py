"""Who changes something, for the history: the account that the operating system knows this process by.

Never from the environment: USER, LOGNAME and SUDO_USER are what somebody typed, and with them one person
would be two. Behind `sudo` it is the account that was changed to; who may do that is in sudo's own log. A
pool that runs asks the kernel the same of whoever connects (`pool.admin.server`). Several persons at one
account are told apart by the tokens that they show (`pool.cli.token_file`).
"""

import os


def operator() -> str:
    """The account's name; its number where it has no name here."""
    from pool.admin.operators import operator_of  # what it takes to know users is what help does not

    return operator_of(os.geteuid())
