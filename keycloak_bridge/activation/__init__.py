"""Who of the invited has set a password, and whose link ended unused: watched until one of them is published."""
