"""What a change of the registry that cannot be made is told with. `pool.fleet.rows` hands it on."""


class RegistryError(Exception):
    """A change that cannot be made; the text says why, for the person who asked for it."""
