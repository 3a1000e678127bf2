"""The API: thin FastAPI around `lpm_kernel`. Reads finished releases; never imports dagster."""
