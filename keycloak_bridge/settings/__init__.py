"""Settings from a TOML file, the environment and flags, checked as a whole at start."""
