"""Sync: from what PostgreSQL decided to every store that has to know."""
