"""Configuration: the schema of a study, its validation, and loading it from YAML. `study.config(...)` checks one."""

from study.callable_package import make_callable

make_callable(__name__, "study.api.sources")
