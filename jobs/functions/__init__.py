"""The job functions of this server."""
