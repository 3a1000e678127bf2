"""Telegram and X: what people say there, taken in as their own documents.

Belongs here: reading pages of either, or files that they export, storing them, and making documents of them.
Does not belong here: what documents become afterwards, and when a group is asked (`twin_assets/social_sensors.py`).
"""
