"""What two or more processes need: messages, facts, channels, settings, time-outs, metrics, audio constants."""
