"""`make bench-peers`: other bridges between Twilio and a model, with the same callers and the same model."""
