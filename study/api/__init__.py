"""Studies from Python: `study.run`, `study.plan`, `study.config` and `study.load`, which `study` hands on."""
