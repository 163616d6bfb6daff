"""`make bench-peers`: the same callers and the same model against other ways to build such a bridge."""
