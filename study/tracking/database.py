"""A new SQLite database for MLflow, there as a whole or not at all."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import sqlalchemy
from mlflow.store.db import utils

from trainables import files

_BUILDING = threading.Lock()  # what alembic migrates is known to the whole process


def create_database(uri: str) -> None:
    """Create the database of a `sqlite:///PATH` store where there is none; leave any other store alone.

    MLflow builds a new one at its place by tens of migrations, which take seconds. A process that is killed meanwhile
    leaves a part of it, which MLflow refuses for ever as out of date; and for a while it refuses whoever else opens it.
    Here it is built elsewhere first. Raises StorageError where it cannot be written.
    """
    if not uri.startswith("sqlite:"):
        return
    name = sqlalchemy.make_url(uri).database
    if not name or name.startswith((":memory:", "file:")) or Path(name).exists():
        return
    with _BUILDING, tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "mlflow.db"
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{built}")
        utils._initialize_tables(engine)  # all that MLflow itself does of it; it offers no public way
        engine.dispose()
        files.create(Path(name), built.read_bytes())
