"""leanrec: large recommenders, made lean and served fast, with numbers for what every step costs and buys."""

__version__ = "0.1.0"
