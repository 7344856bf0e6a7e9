"""Bring the users of files into the realm, in the place of a topic."""
