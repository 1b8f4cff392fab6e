"""What can happen on a connection to an upstream, in the words of its owner.

Must not know: how it was said, who listens.
"""

import msgspec

from stratum.job import Work
from stratum.upstream.extranonce_split import ExtranonceSplit
from stratum.upstream.messages import Reconnect
from stratum.upstream.shares import SubmitAnswer


class Up(msgspec.Struct, frozen=True):
    """Authorised and with a job; the session's attributes say the rest."""


class JobReceived(msgspec.Struct, frozen=True):
    """A job. `clean`: shares of earlier ones are worth nothing any more."""

    work: Work
    clean: bool


class TargetChanged(msgspec.Struct, frozen=True):
    """What is a share, from the next job on."""

    target: int


class ExtranonceChanged(msgspec.Struct, frozen=True):
    """How extranonces look, from the next job on."""

    extranonce1: bytes
    split: ExtranonceSplit


class MaskChanged(msgspec.Struct, frozen=True):
    """The version bits that may be rolled, from now on."""

    mask: int


class ReconnectAsked(msgspec.Struct, frozen=True):
    """The upstream wants us to go."""

    reconnect: Reconnect


class MessageShown(msgspec.Struct, frozen=True):
    """Words for an operator."""

    words: str


class OddMessage(msgspec.Struct, frozen=True):
    """It said something that there is not, or that does not matter; in our words."""

    words: str


UpstreamEvent = (
    Up
    | JobReceived
    | TargetChanged
    | ExtranonceChanged
    | MaskChanged
    | SubmitAnswer
    | ReconnectAsked
    | MessageShown
    | OddMessage
)
