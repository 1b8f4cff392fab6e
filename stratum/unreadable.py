"""What msgspec raises of bytes that are not what they should be: one name for whoever reads somebody else's.

A text in it that is none is a UnicodeDecodeError, and what is nested a thousand deep, also where nobody asks
for it, a RecursionError; the rest is a DecodeError. Must not know: what is read.
"""

from typing import Final

import msgspec

NOT_READ: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
