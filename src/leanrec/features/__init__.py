"""Item attributes to filters and titles, the same code in training and in serving."""
