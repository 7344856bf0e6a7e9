"""What proves that the bridge can be shipped: each module is one target of the Makefile."""
