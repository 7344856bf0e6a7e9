"""Schemas of a schema registry, found by the ids that serializers write into records."""
