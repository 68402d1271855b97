"""What a batch survives, and what it costs: kills, restarts of the server, many writers, slow endpoints."""
