"""Copies of a book, and books that were put back from one."""
