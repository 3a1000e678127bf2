"""Embedded engines: PostgreSQL, SeaweedFS (S3) and FalkorDB (Redis) as real servers from pip packages, under one folder.

Belongs here: starting, watching, stopping and examining them, and the secrets and ports they run with.
Does not belong here: what is stored in them (`stores/`), the tables (migrations), and the command line that prints all this.
"""
