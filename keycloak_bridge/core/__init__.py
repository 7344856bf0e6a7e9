"""Pure decisions: no clock, environment, files, sockets or logging in here."""
