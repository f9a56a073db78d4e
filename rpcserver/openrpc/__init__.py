"""The description of the methods, and what is made of it."""
