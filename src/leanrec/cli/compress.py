def compress() -> int:
    """X."""
