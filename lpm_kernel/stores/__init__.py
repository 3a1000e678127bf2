"""Ports to everything outside: one file a store, each with its Protocol and its classes.

Belongs here: clients, and the queries that are a store's own.
Does not belong here: what the stages do with the answers.
"""
