"""`angara ledger verify`: everything in the books derived again, and compared."""
