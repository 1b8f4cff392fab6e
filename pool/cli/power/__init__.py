"""Commands of `angara power`."""
