"""What who asks for a report can choose: how long a row's time is, and what a row is of.

Must not know: the reports, which take a second to import.
"""

from enum import StrEnum


class Step(StrEnum):
    """How long a row's span is."""

    HOUR = "hour"
    DAY = "day"


class Grain(StrEnum):
    """What a row of hashrates is of."""

    TENANT = "tenant"
    CONTAINER = "container"
    WORKER = "worker"


class Place(StrEnum):
    """What a row of power is of."""

    SITE = "site"
    CONTAINER = "container"
    TENANT = "tenant"


class Whose(StrEnum):
    """What a row of luck is of."""

    TENANT = "tenant"
    CONTAINER = "container"
    WORKER = "worker"
    FIRMWARE = "firmware"  # what the machines call themselves: a build that loses blocks
