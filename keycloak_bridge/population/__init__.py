"""Many users at once: fold their events, compare them with the realm, repair it."""
