"""START HERE: what happens to one record, from its bytes to its result."""
