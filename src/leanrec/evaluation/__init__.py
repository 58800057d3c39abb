"""Metrics, paired intervals, certificates of quality."""
