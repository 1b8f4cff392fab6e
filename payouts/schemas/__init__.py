"""Tables of money, orders, proposals and the book, for SQLite and PostgreSQL."""
