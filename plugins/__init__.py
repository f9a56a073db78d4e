"""Plugins: every extension point, who asks those there are, and those that come with the server."""
