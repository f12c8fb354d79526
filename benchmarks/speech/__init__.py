"""Speaking: how long it takes, and the memory it needs."""
