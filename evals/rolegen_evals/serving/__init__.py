"""``rolegen bench serve``: a real server process under open-loop load."""
