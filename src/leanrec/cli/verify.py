def verify() -> int:
    """X."""
