"""Statistics of arrays and frames: paired differences, factorial models, rates, survival, aggregates, scaling laws."""
