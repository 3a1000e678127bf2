"""Recall: from a question to the lines that reach the prompt."""
