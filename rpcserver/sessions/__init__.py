"""Sessions and contexts: their rows, how they walk, and what is offered where they stand."""
