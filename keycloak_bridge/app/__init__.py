"""The composition root: the running bridge, put together from its settings."""
