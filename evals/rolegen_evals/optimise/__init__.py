"""Better wordings of a prompt's parts, searched by an optimiser on cases of a suite and judged on users that it never saw."""
