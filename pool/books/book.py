"""A book knows its chain: it is bound to one network when it is made, and to nothing else ever after.

A database of before there was a binding is bound by its first start, to the network of the settings, unless
what is in it is of another: an address, a subsidy, a difficulty that network cannot have. The data directory,
which has found blocks, is bound the same way (`pool.data_dir`).

Must not know: nodes, settings.
"""

from sqlalchemy import Connection, select, update

from payouts.batches.schema import payout_items
from payouts.rates import subsidy_sat, target_from_nbits
from payouts.schemas.book import book
from payouts.schemas.money import tenant_addresses
from pool.books.journal.schema import rate_epochs
from pool.books.store import Store
from pool.chain.addresses import BadAddress, script_for
from pool.chain.networks import NETWORKS
from pool.store_error import StoreError


class WrongBook(StoreError):
    """The book is of another chain than is asked for."""


def network_of(connection: Connection) -> str | None:
    """What the book is bound to; None for one that was never started."""
    return connection.scalar(select(book.c.network))


def bind(store: Store, network: str) -> None:
    """See that the book is of this network; one that is of none yet is from now on. Raises WrongBook."""
    with store.read() as connection:
        found = network_of(connection)
        if found is not None:
            _check(found, network)
            return
    with store.write() as connection:
        found = network_of(connection)
        if found is None:
            if words := contradiction(connection, network):
                raise WrongBook(f"the settings say {network}, the database is of another network: {words}")
            connection.execute(update(book).values(network=network, genesis=NETWORKS[network].genesis))
        else:
            _check(found, network)


def bound_network(store: Store, claimed: str | None) -> str | None:
    """The book's network. What is claimed of it, by settings, binds it or is refused. Raises WrongBook."""
    if claimed is not None:
        bind(store, claimed)
        return claimed
    with store.read() as connection:
        return network_of(connection)


def network_to_read(connection: Connection, claimed: str | None) -> str | None:
    """The book's network, of which nothing is written: what is claimed of it is so, or is refused. Raises
    WrongBook."""
    found = network_of(connection)
    if found is not None and claimed is not None:
        _check(found, claimed)
    return found or claimed


def bind_signet(connection: Connection, challenge: str) -> None:
    """The same for a signet's challenge, from its first template on. Raises WrongBook."""
    found = connection.scalar(select(book.c.signet_challenge))
    if found is None:
        connection.execute(update(book).values(signet_challenge=challenge))
    elif found != challenge:
        raise WrongBook(
            f"the database is of the signet with challenge {found:.80}, the node's is {challenge:.80}"
        )


def contradiction(connection: Connection, network: str) -> str | None:
    """The first thing in the book that cannot be on this network, in words."""
    for table in (tenant_addresses, payout_items):
        for address in connection.scalars(select(table.c.address).distinct().order_by(table.c.address)):
            try:
                script_for(address, network)
            except BadAddress as error:
                return str(error)
    rules = NETWORKS[network]
    easiest = target_from_nbits(rules.easiest_nbits)
    for nbits in connection.scalars(select(rate_epochs.c.nbits).distinct()):
        if target_from_nbits(nbits) > easiest:
            return f"work with bits {nbits:08x} was priced, easier than {network} allows"
    offered = (rate_epochs.c.height, rate_epochs.c.subsidy_sat)
    for height, sat in connection.execute(select(*offered).distinct().order_by(*offered)):
        if sat != subsidy_sat(height, rules.halving_interval):
            return f"a block at height {height} was priced with a subsidy of {sat} sat"
    return None


def _check(found: str, network: str) -> None:
    if found != network:
        raise WrongBook(
            f"the database is a book of {found}, the settings say {network}: every network has its own"
        )
