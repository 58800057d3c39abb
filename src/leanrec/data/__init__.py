"""Raw logs to a Dataset."""
