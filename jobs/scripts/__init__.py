"""Scripts of the core: where they run, and their runs."""
