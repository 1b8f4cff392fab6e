"""Threads that others have: as when forty of them wait for a database that does not answer."""

import trio


def all_taken() -> None:
    """Until the end of this run."""
    places = trio.to_thread.current_default_thread_limiter()
    for _ in range(int(places.available_tokens)):
        places.acquire_on_behalf_of_nowait(object())
