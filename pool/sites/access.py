"""How NATS servers are reached, by the settings of an edge or a hub.

Must not know: what is said there.
"""

from pool.config import NatsSettings
from pool.sites.nats.client import Access


def access(settings: NatsSettings, name: str) -> Access:
    """As whoever has that key."""
    return Access(urls=settings.urls, name=name, seed=settings.key_file, authorities=settings.authorities)
