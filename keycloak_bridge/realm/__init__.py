"""The realm itself: what the bridge needs of it, the difference, and who changes it."""
