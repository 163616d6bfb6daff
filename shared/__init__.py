"""What two or more processes need: messages, the bus, settings, metrics, audio constants."""
