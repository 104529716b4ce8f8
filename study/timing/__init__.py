"""Time of a study: estimated before it runs, with sizes that fit into a budget, and left while it runs."""
