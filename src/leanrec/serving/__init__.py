"""HTTP: routes, batching, admission, metrics."""
