"""Our bitcoinds, their templates, and the way of a block to them."""
