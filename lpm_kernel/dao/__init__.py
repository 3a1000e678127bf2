"""Decisions of the community: pure rules over records. A twin proposes, and only a rule that allows it casts."""
