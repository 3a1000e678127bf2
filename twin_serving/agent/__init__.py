"""The agent: one turn as a graph of the kernel's own steps."""
