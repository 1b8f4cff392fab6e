"""Which signet the books are of: our own nodes say that.

An edge asks with the challenge that its node has. Whoever spoke first would choose the signet of the books
for ever, so no edge's word is written down: it is compared. Must not know: how edges are told.
"""

from pool.books.book import WrongBook
from pool.chain.node_set import NodeSet
from pool.chain.rpc import NodeError
from pool.hub import Hub, HubAway

SIGNET = "signet"


class OurSignet:
    """Of one hub."""

    def __init__(self, nodes: NodeSet, hub: Hub) -> None:
        self._nodes, self._hub = nodes, hub
        self._challenge: str | None = None  # the book is bound to it

    async def check(self, challenge: str) -> None:
        """That templates of this signet are the book's. Raises WrongBook, and HubAway where no node of ours
        says which it is."""
        if self._nodes.chain != SIGNET:
            raise WrongBook(f"the database is a book of {self._nodes.chain}, which is no signet")
        ours = self._challenge
        if ours is None:
            ours = await self._ask()
            await self._hub.bind_signet(ours)
            self._challenge = ours
        if challenge != ours:
            raise WrongBook(
                f"the signet of the hub's node has challenge {ours:.80}, the edge's is {challenge:.80}"
            )

    async def _ask(self) -> str:
        node = self._nodes.current
        if node is None:
            raise HubAway("no node of the hub answers, which says what signet this is")
        try:
            template = await node.template(chain=SIGNET)
        except NodeError as error:
            raise HubAway(f"node {node.name} does not say what signet this is: {error}") from None
        assert template.signet_challenge is not None  # as the rules of its chain are
        return template.signet_challenge
