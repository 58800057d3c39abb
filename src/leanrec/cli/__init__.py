"""One command, leanrec."""
