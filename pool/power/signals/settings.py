"""`[power.signals]` of the settings: who may ask for events beside persons, and for how much.

    [power.signals]
    file = "calls.toml"                      # pool.power.signals.watched_file
    prices = true                            # pool.power.signals.price_watch
    webhook_secret_file = "grid.secret"      # pool.power.signals.signed_calls
    sites = ["north"]
    [power.signals.openadr]                  # pool.power.signals.openadr

None of them without its setting. Must not know: whether any of them leads anywhere.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from pool.power.signals.bounds import HOUR_S, Bounds
from pool.power.signals.call import LIMIT_KW_MAX
from pool.settings_file import BadConfig, path_in


class OpenadrTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grid's VTN (OpenADR 2.0b), which this pool asks for events as a VEN. It takes the extra `openadr`."""

    url: Annotated[
        str, Meta(description="https://HOST:PORT/OpenADR2/Simple/2.0b; http:// on this host alone")
    ]
    ven_name: Annotated[str, Meta(description="As the VTN calls this pool")]
    certificate: Annotated[str | None, Meta(description="That this pool shows and signs with, PEM")] = None
    key: Annotated[str | None, Meta(description="The certificate's, PEM, its owner's alone")] = None
    authorities: Annotated[
        str | None, Meta(description="Whose certificates of the VTN are good, PEM; needed for https://")
    ] = None
    fingerprint: Annotated[
        str | None, Meta(description="Of the certificate that the VTN signs its messages with")
    ] = None
    site: Annotated[str, Meta(description="The site that its events are for; empty: all of them")] = ""
    # A grid's simple levels say how bad it is, and not how much: that is agreed on with it.
    percents: Annotated[
        list[Annotated[int, Meta(ge=0, le=100)]],
        Meta(description="Of the site's power less, at the levels 1, 2 and 3 of a SIMPLE signal"),
    ] = msgspec.field(default_factory=lambda: [0, 50, 100])
    poll_s: Annotated[
        int, Meta(ge=10, le=3600, description="Between two questions, unless the VTN wants it less often")
    ] = 30


class SignalsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may ask for curtailment beside a person, and how much of it: see [power.md](power.md)."""

    file: Annotated[
        str | None, Meta(description="A file of calls, .toml or .json, which its owner alone may write")
    ] = None
    prices: Annotated[
        bool, Meta(description="Machines that do not pay for their energy by the tariff of their site rest")
    ] = False
    webhook_secret_file: Annotated[
        str | None, Meta(description="The secret that calls over HTTP are signed with, 0600")
    ] = None
    sites: Annotated[
        list[str], Meta(description="The sites that signals may stop; none: any, and all at once")
    ] = msgspec.field(default_factory=list)
    # What a secret in wrong hands is worth is what these say.
    least_kw: Annotated[
        int, Meta(ge=0, le=LIMIT_KW_MAX, description="What a signal leaves a site at least")
    ] = 0
    longest_h: Annotated[int, Meta(ge=1, le=168, description="The longest event of a signal")] = 4
    hours_a_day: Annotated[
        int, Meta(ge=1, le=24, description="That one signal has a site curtailed of any 24 hours")
    ] = 8
    calls_a_day: Annotated[
        int, Meta(ge=1, le=1000, description="Of one signal that are taken within 24 hours")
    ] = 12
    openadr: OpenadrTable | None = None


class OpenadrSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of one VTN."""

    url: str
    ven_name: str
    certificate: Path | None
    key: Path | None
    authorities: Path | None
    fingerprint: str | None
    site: str
    percents: tuple[int, ...]
    poll_s: int


class SignalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Checked. A source that is None is not there."""

    file: Path | None = None
    prices: bool = False
    webhook_secret: Path | None = None
    openadr: OpenadrSettings | None = None
    bounds: Bounds = Bounds()


def signal_settings(table: SignalsTable, base: Path) -> SignalSettings:
    """Files are relative to `base`. Raises BadConfig."""
    file = _path(table.file, base, "power.signals.file")
    if file is not None and file.suffix not in (".toml", ".json"):
        raise BadConfig("power.signals.file: its name ends in .toml or .json, which says what it is")
    return SignalSettings(
        file=file,
        prices=table.prices,
        webhook_secret=_path(table.webhook_secret_file, base, "power.signals.webhook_secret_file"),
        openadr=None if table.openadr is None else _openadr(table.openadr, base),
        bounds=Bounds(
            sites=tuple(table.sites),
            least_w=table.least_kw * 1000,
            longest_s=table.longest_h * HOUR_S,
            hours_a_day=table.hours_a_day,
            calls_a_day=table.calls_a_day,
        ),
    )


def _openadr(table: OpenadrTable, base: Path) -> OpenadrSettings:
    what, levels = "power.signals.openadr", 3
    scheme, _, rest = table.url.partition("://")
    host = rest.partition("/")[0].rpartition(":")[0] or rest.partition("/")[0]
    if scheme not in ("https", "http") or not host or not table.url.isprintable():
        raise BadConfig(f"{what}: url: https://HOST:PORT/OpenADR2/Simple/2.0b is one")
    if scheme == "http" and host not in ("localhost", "127.0.0.1", "[::1]"):
        raise BadConfig(f"{what}: url: http:// is for this host alone: whoever is in between stops machines")
    if scheme == "https" and table.authorities is None:
        raise BadConfig(f"{what}: authorities: https:// needs to know whose certificates are good")
    if (table.certificate is None) != (table.key is None):
        raise BadConfig(f"{what}: a certificate has a key, and a key a certificate")
    if len(table.percents) != levels:
        raise BadConfig(f"{what}: percents has one for each of the levels 1, 2 and 3")
    return OpenadrSettings(
        url=table.url.rstrip("/"),
        ven_name=table.ven_name,
        certificate=_path(table.certificate, base, f"{what}: certificate"),
        key=_path(table.key, base, f"{what}: key"),
        authorities=_path(table.authorities, base, f"{what}: authorities"),
        fingerprint=table.fingerprint,
        site=table.site,
        percents=tuple(table.percents),
        poll_s=table.poll_s,
    )


def _path(text: str | None, base: Path, what: str) -> Path | None:
    return None if text is None else path_in(base, text, what)
