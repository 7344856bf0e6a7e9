"""Events in JSON, NDJSON and CSV files; golden cases."""
