"""The books by hand: the ledger, what is taken back in it, prices, the database and copies of it."""
