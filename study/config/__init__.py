"""Configuration: the schema of a study, its validation, and reading it from YAML."""
