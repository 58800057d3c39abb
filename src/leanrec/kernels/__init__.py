"""Compiled loops, each beside its plain NumPy reference (`*_reference`), compared by a property test."""
