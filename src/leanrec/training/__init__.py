"""Objectives, negatives, optimisers, the trainer."""
