"""The pool's HTTP door over TCP: who is let in, and what is answered without a command."""
