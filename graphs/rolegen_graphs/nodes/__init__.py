"""One node of the loop per file, in the order of the loop: observe, reason, simulate, ground, execute, feedback, reflect."""
