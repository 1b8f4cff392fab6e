"""Roles: what each may is what those below it may, and more.

    metrics   a program that scrapes figures: gives no command
    tenant    one tenant's own figures
    viewer    sees everything
    operator  machines, containers, which endpoint serves, who is suspended
    payer     whatever decides who is paid what: addresses, terms, upstreams' accounts, orders
    admin     users

Must not know: which commands there are, and how somebody proves who he is.
"""

from enum import StrEnum
from typing import Final

import msgspec

from pool.fleet.registry_error import RegistryError


class Role(StrEnum):
    """The least first."""

    METRICS = "metrics"
    TENANT = "tenant"
    VIEWER = "viewer"
    OPERATOR = "operator"
    PAYER = "payer"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS: Final = {role: rank for rank, role in enumerate(Role)}
USER_ROLES: Final = tuple(role for role in Role if role is not Role.METRICS)


class NotPermitted(RegistryError):
    """Somebody asks for what is not his to ask; the text says so, and nothing that he may not know."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who gives a command, in what role, and from where. `user_id` is None for an account that needs no user:
    one that can open the database itself."""

    name: str
    source: str
    role: Role
    tenant: str | None = None  # whose figures a tenant's user sees, and no others
    user_id: int | None = None
    token: int | None = None  # the number of what was shown, where a program asks
    expires_at_s: int | None = None  # the same token's

    def demand(self, least: Role, what: str) -> None:
        """Raises NotPermitted where the role is below that."""
        if self.role.rank < least.rank:
            raise NotPermitted(f"{what} takes the role {least}, and {self.name} has {self.role}")

    @property
    def may_scrape(self) -> bool:
        """Whether the pool's metrics are his to see, which have every tenant's business in them."""
        return self.role is Role.METRICS or self.role.rank >= Role.VIEWER.rank

    def own_tenant(self, asked: str | None) -> str | None:
        """The tenant to ask about: whichever is asked for, or a tenant's user's own. Raises NotPermitted, in
        the same words whether there is such a tenant or not."""
        if self.role is not Role.TENANT:
            return asked
        if self.tenant is None or asked not in (None, self.tenant):
            raise NotPermitted(f"{self.name} may ask about the tenant {self.tenant} alone")
        return self.tenant


def host_account(name: str, source: str) -> Caller:
    """Whoever can open the database: may everything, without a user."""
    return Caller(name=name, source=source, role=Role.ADMIN)
