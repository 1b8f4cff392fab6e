"""Where machines mine: upstreams, and orders that are delivered to them."""
