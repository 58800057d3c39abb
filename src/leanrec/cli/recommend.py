def recommend() -> int:
    """X."""
