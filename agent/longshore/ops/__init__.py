"""The use cases: each module reads from top to bottom."""
