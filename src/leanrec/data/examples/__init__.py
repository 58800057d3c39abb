"""Labelled rows for models that predict what happens: made from a Dataset, or stored as they were logged."""
