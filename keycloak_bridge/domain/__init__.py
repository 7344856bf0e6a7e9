"""The words everything else is written in: events, users, operations, results, errors and ports."""
