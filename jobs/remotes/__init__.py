"""Calls to other hosts: the guard, the client, and remotes of the core."""
