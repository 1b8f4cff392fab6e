"""What a miner's agent says about it, beyond what it asks for.

Must not know: sessions, channels.
"""

from functools import lru_cache
from typing import Final

# A marketplace ends an order where a difficulty is lower than its own least; not one of its proxies asks for
# that least. 524,288 is the power of two that is not below 500,000.
_LEAST_LOG2: Final = {"nicehash": 19}


@lru_cache(maxsize=512)  # a site has a dozen agents
def least_difficulty_log2(agent: str) -> int | None:
    """The lowest difficulty that will do for this agent, as an exponent of two; None: any."""
    name = agent.casefold()
    return next((log2 for word, log2 in _LEAST_LOG2.items() if word in name), None)


@lru_cache(maxsize=512)
def reads_on_when_more_comes(agent: str) -> bool:
    """Whether the first job, said in one go with the answer to authorize, is read with what comes after it:
    ckpool as a proxy (0.9.9), whose machines have no work until then."""
    return "ckpool" in agent.casefold()
