"""The name that a change is recorded under: the operating system's, of the account that asks for it.

Nobody says his own name. Of a command that comes through the socket it is the account whose process
connected, as the kernel knows it; where no pool runs, that of the process that writes. Neither an environment
variable nor anything that was sent has a part in it.
"""

import pwd


def operator_of(uid: int) -> str:
    """The account's name. May ask a directory service: call it from a worker thread."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as often in a container image
        return f"uid {uid}"
