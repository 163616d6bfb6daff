"""Three real cells behind a real HAProxy, with redis-server and PostgreSQL: what callers hear of a failure."""
