"""What the platform must bear: processes killed at random, stores that stop, bytes that nobody would send on purpose."""
