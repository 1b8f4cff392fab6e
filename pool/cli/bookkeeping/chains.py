"""Rows of the chains that are published, page by page."""

from typing import Any

from pool.cli.books import Books


def rows_of(books: Books, what: str, first: int = 1) -> list[Any]:
    """Roots, closings or reserves, from that number on."""
    found: list[Any] = []
    following: int | None = first
    while following is not None:
        answer = books.ask(f"proof.{what}", first=following)
        found += answer[what]
        following = answer["next"]
    return found
