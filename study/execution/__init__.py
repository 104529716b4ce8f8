"""Execution: phases on Ray Tune, every event into the journal. The only room of `study` that knows Ray."""
