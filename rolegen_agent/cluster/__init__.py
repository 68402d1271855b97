"""The project's long work on a Ray cluster (extra ``ray``): the same functions as on one machine, in workers on its nodes.

Nodes share the project's folder, at the same path, and a PostgreSQL memory. Ray is imported when it is used, not before.
"""

from .awakening import awaken_on_ray
from .connection import connected
from .ingestion import ingest_on_ray
from .training import train_on_ray

__all__ = ["awaken_on_ray", "connected", "ingest_on_ray", "train_on_ray"]
