"""Studies: configuration, phases, execution on Ray Tune, the journal and MLflow tracking."""
