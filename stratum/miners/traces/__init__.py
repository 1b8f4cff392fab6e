"""The lines between machines and the pool, kept as they pass for somebody who looks at them."""
