"""How the extranonce2 of an upstream is shared out: our prefix, one for each session, and the miner's part.

    upstream's extranonce2 = filler | prefix | miner's extranonce2

The miner gets as many bytes as on our other channels where that is possible, so that a session can come from
there with the extranonces that it has; otherwise 4: all firmware takes 4, some breaks above 8, rentals ask
for 4, and several Avalon drivers never submit below 3. The prefix gets the rest, up to 4 bytes, and what no
firmware could use becomes filler, which is zero. Of an upstream's 4 bytes the miner gets 3.
Must not know: messages, who holds which prefix.
"""

from typing import Final

import msgspec

MINER_BYTES_WANTED: Final = 4
MINER_BYTES_MAX: Final = 8
PREFIX_BYTES_MAX: Final = 4


class TooLittleExtranonce(ValueError):
    """An upstream leaves too few bytes; the text says how many it takes, and for what."""


class ExtranonceNeed(msgspec.Struct, frozen=True, kw_only=True):
    """The least that will do. Raises ValueError for what cannot be."""

    prefix_bytes_min: int = 1  # 256 sessions on one connection
    miner_bytes_min: int = 3
    miner_bytes_wanted: int | None = None  # beside a prefix of PREFIX_BYTES_MAX; None: none in particular

    def __post_init__(self) -> None:
        if not 1 <= self.prefix_bytes_min <= PREFIX_BYTES_MAX:
            raise ValueError(f"the prefix has 1 to {PREFIX_BYTES_MAX} bytes")
        if not 1 <= self.miner_bytes_min <= MINER_BYTES_MAX:
            raise ValueError(f"the miner's extranonce2 has 1 to {MINER_BYTES_MAX} bytes")
        wanted = self.miner_bytes_wanted
        if wanted is not None and not self.miner_bytes_min <= wanted <= MINER_BYTES_MAX:
            raise ValueError("the miner's extranonce2 is wanted smaller or larger than it may be")


class ExtranonceSplit(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes belong to whom."""

    filler_bytes: int
    prefix_bytes: int
    miner_bytes: int

    @property
    def upstream_bytes(self) -> int:
        """All of the upstream's extranonce2."""
        return self.filler_bytes + self.prefix_bytes + self.miner_bytes

    @property
    def sessions(self) -> int:
        """How many one connection has prefixes for."""
        return 1 << 8 * self.prefix_bytes

    @property
    def limits(self) -> str:
        """What that means, in words; empty where it limits nobody."""
        words = []
        if self.miner_bytes < MINER_BYTES_WANTED:
            words.append(
                f"{self.miner_bytes} bytes of extranonce2 for the miner: rentals ask for {MINER_BYTES_WANTED}"
                " and will not mine on it"
            )
        if self.prefix_bytes == 1:
            words.append(f"{self.sessions} sessions a connection: more connections are opened as needed")
        return "; ".join(words)


def split_extranonce2(upstream_bytes: int, need: ExtranonceNeed) -> ExtranonceSplit:
    """Share out `upstream_bytes`. Raises TooLittleExtranonce."""
    least = need.prefix_bytes_min + need.miner_bytes_min
    if upstream_bytes < least:
        raise TooLittleExtranonce(
            f"the upstream leaves {upstream_bytes} bytes of extranonce2, and {least} are needed: "
            f"{need.prefix_bytes_min} for our prefix ({1 << 8 * need.prefix_bytes_min} sessions) and "
            f"{need.miner_bytes_min} for the miner"
        )
    if need.miner_bytes_wanted is not None and upstream_bytes >= PREFIX_BYTES_MAX + need.miner_bytes_wanted:
        miner = need.miner_bytes_wanted
        return ExtranonceSplit(
            filler_bytes=upstream_bytes - PREFIX_BYTES_MAX - miner,
            prefix_bytes=PREFIX_BYTES_MAX,
            miner_bytes=miner,
        )
    spare = upstream_bytes - max(MINER_BYTES_WANTED, need.miner_bytes_min)
    prefix = min(max(spare, need.prefix_bytes_min), PREFIX_BYTES_MAX)
    miner = min(upstream_bytes - prefix, MINER_BYTES_MAX)
    return ExtranonceSplit(
        filler_bytes=upstream_bytes - prefix - miner, prefix_bytes=prefix, miner_bytes=miner
    )
