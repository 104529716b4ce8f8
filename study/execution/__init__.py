"""Execution of phases on Ray Tune, with every event in the journal; the only room of `study` that imports Ray."""
