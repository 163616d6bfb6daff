"""The near ear: whether the caller speaks, judged from the caller's own audio while the AI is audible."""
