"""What every hour of an order came to, for its buyer: signed, in a chain, to be checked without the pool."""
