"""Reactivation on Online Retail II: who ranks best what dormant customers buy when they come back?

``protocol.py`` says who is asked what and hands out the past; ``systems.py`` is the contract of a system, and each
system is one file; ``run.py`` runs them, ``judge.py`` and ``errors.py`` count, ``page.py`` shows.
"""
