def serve() -> int:
    """X."""
