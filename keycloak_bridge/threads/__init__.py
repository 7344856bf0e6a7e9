"""What threads share: locks, and a memory of the last entries."""
