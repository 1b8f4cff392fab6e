"""The certificate of TLS listeners: loaded, checked, and loaded again when its files have changed.

A renewed certificate counts from the next connection on, without a restart. A new one that cannot be used
leaves the old one in force and is an alarm, once for each change of the files.
What reads certificates is a large library: it is imported with the first of them.
Must not know: sockets, sessions.
"""

import os
import ssl
import time
from typing import Any, Final

import msgspec
import structlog

log = structlog.get_logger()

EXPIRY_WARNING_S: Final = 14 * 86_400.0  # renewals run 30 days before the end: two weeks late is a fault
ALARM_INTERVAL_S: Final = 3600.0  # loud enough, and no flood


class BadCertificate(Exception):
    """A certificate or key that cannot be used; the text names the file."""


class _Loaded(msgspec.Struct, frozen=True):
    """What the files hold; times in Unix seconds."""

    context: ssl.SSLContext
    valid_from_s: float
    valid_until_s: float
    for_servers: bool

    def problem(self, now_s: float) -> str | None:
        """Why a client that verifies certificates would refuse this one."""
        if now_s < self.valid_from_s:
            return "certificate is not yet valid"
        if now_s >= self.valid_until_s:
            return "certificate has expired"
        return None if self.for_servers else "certificate is not for servers"


class Certificate:
    """PEM files and the TLS context made of them. `key` None: it is in the certificate's file.

    Raises BadCertificate. An expired one is used all the same, under protest: many miners do not look.
    """

    def __init__(self, certificate: str, key: str | None) -> None:
        self._files = (certificate, key or certificate)
        self._stamp = self._file_stamps()
        self._loaded = _load(*self._files)
        self._alarm_due_s = 0.0
        self._mind_expiry()

    @property
    def problem(self) -> str | None:
        """Why a miner that verifies certificates would refuse this one now."""
        return self._loaded.problem(time.time())

    @property
    def until(self) -> str:
        """The day on which it expires."""
        return time.strftime("%Y-%m-%d", time.gmtime(self._loaded.valid_until_s))

    def context(self) -> ssl.SSLContext:
        """For the next connection: with the certificate that the files hold now, if it is a good one."""
        stamp = self._file_stamps()
        if stamp != self._stamp:
            self._stamp = stamp
            self._renew()
        self._mind_expiry()
        return self._loaded.context

    def _renew(self) -> None:
        try:
            loaded = _load(*self._files)
            problem = loaded.problem(time.time())
            if problem is not None and self.problem is None:
                raise BadCertificate(f"{self._files[0]}: {problem}")
        except BadCertificate as error:
            log.error("certificate_not_renewed", reason=str(error), old_one_until=self.until)
            return
        self._loaded = loaded
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
        if self._loaded.valid_until_s - time.time() > EXPIRY_WARNING_S and self.problem is None:
            return
        if time.monotonic() < self._alarm_due_s:
            return
        self._alarm_due_s = time.monotonic() + ALARM_INTERVAL_S
        if self.problem is None:
            log.warning("certificate_expires_soon", certificate=self._files[0], until=self.until)
        else:
            log.error("certificate_not_valid", certificate=self._files[0], reason=self.problem)


def valid_until_s(certificate: str) -> float:
    """When the certificate ends that is in the file now, in Unix seconds. Raises BadCertificate."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(_read(certificate))[0].not_valid_after_utc.timestamp()
    except ValueError as error:
        raise BadCertificate(f"cannot use the certificate {certificate}: {error}") from None


def _load(certificate: str, key: str) -> _Loaded:
    from cryptography import x509

    pem, _ = _read(certificate), _read(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # no miner needs it, and it costs us more than them
    try:
        # Without a password at hand OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
        shown = x509.load_pem_x509_certificates(pem)[0]  # the others are its chain
        return _Loaded(
            context,
            shown.not_valid_before_utc.timestamp(),
            shown.not_valid_after_utc.timestamp(),
            _for_servers(shown.extensions),
        )
    except (OSError, ValueError, x509.DuplicateExtension) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise BadCertificate(f"cannot use the certificate {certificate} with its key: {reason}") from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadCertificate(f"cannot read {path}: {error.strerror}") from None


def _for_servers(extensions: Any) -> bool:
    """Whether clients may take the certificate for a server's, by what it says it is for."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return True  # for anything
    for_servers = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return not for_servers.isdisjoint(usage.value)
