"""What proves the books: `angara ledger verify`."""
