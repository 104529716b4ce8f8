"""Configuration: the schema of a study, its validation, and loading it from YAML."""
