"""The work of a digital twin, in plain Python: what is read, remembered, trained and recalled.

Belongs here: everything that would stay true if Dagster and FastAPI were replaced.
Does not belong here: any import of dagster or fastapi; any work at import time.
"""
