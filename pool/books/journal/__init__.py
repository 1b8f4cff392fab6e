"""Work on disk: tallies before their answers leave, and what upstreams and rate numbers make of them."""
