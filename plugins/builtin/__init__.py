"""The plugins that come with the server."""
