"""What people look at on the private port: the list of calls, and one call as a timeline."""
