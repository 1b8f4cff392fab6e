"""Numbers that one process tells another, in types that msgspec holds them to as it reads them.

Who tells them may be somebody who has taken over a site. So they add up with what others tell, to what fits
64 bits, and can be rounded and shown: no NaN, no infinity. Must not know: what is counted.
"""

from typing import Annotated, Final

from msgspec import Meta

COUNT_MAX: Final = 1 << 53  # what JSON's readers have exactly; a thousand of them are 63 bits
SECONDS_MAX: Final = 10**10  # three centuries

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Seconds = Annotated[float, Meta(ge=0, le=SECONDS_MAX)]
