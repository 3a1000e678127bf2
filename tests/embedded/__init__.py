"""The embedded engines: really started, killed and counted after."""
