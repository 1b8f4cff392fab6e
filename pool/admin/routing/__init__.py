"""Where machines mine: upstreams and orders."""
