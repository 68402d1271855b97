"""How decisions scale with workers and their number, and a plan for tens of millions of users from what was measured."""
