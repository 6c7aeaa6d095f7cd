"""The management API of what answers calls: upstreams, models, routes, prices; and of the calls."""
