"""Chats and readers at once, from a process of their own: `python -m bench load`."""
