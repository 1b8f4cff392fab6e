"""The command line, a room a field, a file a noun; what all commands share is beside them."""
