def evaluate() -> int:
    """X."""
