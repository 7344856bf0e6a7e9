"""From the desired user and the one found to the fewest operations."""
