"""The languages that upstreams speak, one module each. Pure."""
