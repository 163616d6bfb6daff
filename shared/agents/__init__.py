"""Agents: the keys of their files, the directory that holds them, and the variables in their words."""
