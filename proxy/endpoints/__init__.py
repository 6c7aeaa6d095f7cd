"""What each path takes: a request's body becomes a `Call`."""
