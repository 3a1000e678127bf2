"""L1, memory in words: topics."""
