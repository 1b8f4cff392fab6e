"""Where an answer of HTTP sends whoever asks, which nobody here follows: a hook for clients that are httpx's.

Must not know: who is asked, and what for.
"""

import httpx


async def leads_nowhere(response: httpx.Response) -> None:
    """httpx reads the address of a redirection that nobody follows, and raises what it likes of it."""
    response.headers.pop("Location", None)
