"""Asking many twins at once what they would say to a goal or a proposal, and what comes of it. Nothing here casts a ballot."""
