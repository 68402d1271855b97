"""Amazon Beauty, leave-one-out: the protocol on which generative recommenders publish.

``benchmark.py`` is the way in; ``protocol.py`` says what is split and judged how.
"""
