"""Names in a study's folder that are also needed where their writers, which take seconds to import, are not."""

CONFIG_FILE, ENCODERS = "study.yaml", "encoders"
