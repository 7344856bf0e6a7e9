"""JSON Schemas of events: catalog, validator, and compatibility of versions."""
