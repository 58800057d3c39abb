"""Nouns, ids, jagged arrays, configuration, errors: the ground floor, imported by everything."""
