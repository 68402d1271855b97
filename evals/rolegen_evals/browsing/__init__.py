"""``rolegen bench pages``: how long the trace pages take over a memory of a million decisions; see ``benchmark.py``."""
