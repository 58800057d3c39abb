"""Tables of row vectors and the optimisers that touch only the rows of a batch."""
