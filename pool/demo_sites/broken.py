"""What a demo of several sites can break, as its command line has it. Imported before anything runs."""

import enum


class Break(enum.StrEnum):
    """Each is a fault of pool.demo_sites.breaks."""

    NATS = "nats"
    HUB = "hub"
    EDGE = "edge"
    LINK = "link"
