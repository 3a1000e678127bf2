"""Reconciliation: every store compared with PostgreSQL, which is the truth; what can be explained is repaired.

Belongs here: reading what each store holds, deciding what is out of step (pure functions), and repairing it from the truth.
Does not belong here: when it runs (`twin_assets/reconciliation_schedule.py`) and how stores are written in the first place.
"""
