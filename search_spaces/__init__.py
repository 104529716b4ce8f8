"""Where to look: the search space and default configuration of each pretext task."""
