"""The command line: one module a command group; each parses, calls, prints and sets the exit code."""
