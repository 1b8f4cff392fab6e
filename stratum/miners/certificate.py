"""The certificate of TLS listeners: loaded, checked, and loaded again when its files have changed.

A renewed certificate counts from the next connection on, without a restart. A new one that cannot be used
leaves the old one in force and is an alarm, once for each change of the files.
Must not know: sockets, sessions.
"""

import os
import ssl
import time
from typing import Final

import structlog

log = structlog.get_logger()

EXPIRY_WARNING_S: Final = 14 * 86_400.0  # renewals run 30 days before the end: two weeks late is a fault
ALARM_INTERVAL_S: Final = 3600.0  # loud enough, and no flood
HANDSHAKE_ROUNDS_MAX: Final = 4  # TLS 1.3 takes two, 1.2 three


class BadCertificate(Exception):
    """A certificate or key that cannot be used; the text names the file."""


class Certificate:
    """PEM files and the TLS context made of them. `key` None: it is in the certificate's file.

    Raises BadCertificate. An expired one is used all the same, under protest: many miners do not look.
    """

    def __init__(self, certificate: str, key: str | None) -> None:
        self._files = (certificate, key or certificate)
        self._stamp = self._file_stamps()
        self._context, self._until_unix_s, self._flaw = _load(*self._files)
        self._alarm_due_s = 0.0
        self._mind_expiry()

    @property
    def problem(self) -> str | None:
        """Why a miner that verifies certificates would refuse this one now."""
        if self._flaw is None and time.time() >= self._until_unix_s:
            return "certificate has expired"
        return self._flaw

    @property
    def until(self) -> str:
        """The day on which it expires; "unknown" where it was never valid."""
        if self._until_unix_s == 0:
            return "unknown"
        return time.strftime("%Y-%m-%d", time.gmtime(self._until_unix_s))

    def context(self) -> ssl.SSLContext:
        """For the next connection: with the certificate that the files hold now, if it is a good one."""
        stamp = self._file_stamps()
        if stamp != self._stamp:
            self._stamp = stamp
            self._renew()
        self._mind_expiry()
        return self._context

    def _renew(self) -> None:
        try:
            context, until_unix_s, flaw = _load(*self._files)
            if flaw is not None and self.problem is None:
                raise BadCertificate(f"{self._files[0]}: {flaw}")
        except BadCertificate as error:
            log.error("certificate_not_renewed", reason=str(error), old_one_until=self.until)
            return
        self._context, self._until_unix_s, self._flaw = context, until_unix_s, flaw
        self._alarm_due_s = 0.0
        log.info("certificate_renewed", certificate=self._files[0], until=self.until)

    def _file_stamps(self) -> list[tuple[int, int, int] | None]:
        """Differs when a file does."""
        stamps: list[tuple[int, int, int] | None] = []
        for path in self._files:
            try:
                found = os.stat(path)
                stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
            except OSError:
                stamps.append(None)
        return stamps

    def _mind_expiry(self) -> None:
        if time.time() < self._until_unix_s - EXPIRY_WARNING_S and self._flaw is None:
            return
        if time.monotonic() < self._alarm_due_s:
            return
        self._alarm_due_s = time.monotonic() + ALARM_INTERVAL_S
        if self.problem is None:
            log.warning("certificate_expires_soon", certificate=self._files[0], until=self.until)
        else:
            log.error("certificate_not_valid", certificate=self._files[0], reason=self.problem)


def _load(certificate: str, key: str) -> tuple[ssl.SSLContext, float, str | None]:
    """A context, until when its certificate is valid (Unix seconds), and what is wrong with it."""
    for path in (certificate, key):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise BadCertificate(f"cannot read {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # no miner needs it, and it costs us more than them
    try:
        # Without a password at hand OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
        return (context, *_verified(context, certificate))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise BadCertificate(f"cannot use the certificate {certificate} with its key: {reason}") from None


def _verified(context: ssl.SSLContext, certificate: str) -> tuple[float, str | None]:
    """What a client says that trusts exactly this certificate: only to such a one does `ssl` tell dates."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(HANDSHAKE_ROUNDS_MAX):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return 0.0, error.verify_message
    described = client.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(described["notAfter"]))), None
