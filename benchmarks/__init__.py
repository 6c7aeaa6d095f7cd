"""`make bench`: what a call costs the gateway's process, beside nginx forwarding the same calls."""
