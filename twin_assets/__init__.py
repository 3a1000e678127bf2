"""The assets, sensors and commands: thin Dagster around `lpm_kernel`."""
