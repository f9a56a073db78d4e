"""JSON-RPC: from the text of a message to a checked call, and from its outcome to the text of the answer."""
