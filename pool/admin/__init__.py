"""How an operator's commands reach the books: through a running pool's socket, or without one."""
