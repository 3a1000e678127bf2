"""L1, memory in words: topics, shades, biography."""
