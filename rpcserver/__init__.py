"""The edge: the only room that knows WebSocket and JSON-RPC."""

__version__ = "0.1.0"
