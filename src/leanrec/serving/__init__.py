"""HTTP: one table of routes, admission, batching, user state, metrics. One process owns one engine and its events."""
