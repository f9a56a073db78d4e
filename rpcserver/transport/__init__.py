"""The only room that knows WebSocket and HTTP."""
