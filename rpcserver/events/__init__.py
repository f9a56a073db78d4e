"""Events: the log, the subscriptions, and what there is to hear."""
