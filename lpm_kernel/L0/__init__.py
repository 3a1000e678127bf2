"""L0, memory as it was written: bytes, text, chunks, vectors."""
