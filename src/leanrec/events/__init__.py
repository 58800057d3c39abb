"""The event store and the histories of users."""
