"""Energy in the books: tariffs, charges, and what an hour without machines forgoes. Exact."""
