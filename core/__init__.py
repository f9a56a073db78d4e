"""The world: users, sets, tokens, links, members. Plain functions over a transaction; only jobs call them."""
