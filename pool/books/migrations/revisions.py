"""Which schemas there are: whoever opens a book of the newest need not run the file of each migration.

A test holds these against the files.
"""

from typing import Final

NEWEST: Final = "0044"
REVISIONS: Final = frozenset(f"{number:04}" for number in range(1, int(NEWEST) + 1))
