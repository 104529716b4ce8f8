"""The plan of a study: its phases and trials, and what its history leaves to do. `study.plan(...)` shows one."""

from study.callable_package import make_callable

make_callable(__name__, "study.api.plans")
