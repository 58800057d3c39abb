def quickstart() -> int:
    """X."""
