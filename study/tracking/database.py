"""Atomic creation of MLflow's SQLite database."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import sqlalchemy
from mlflow.store.db import utils

from trainables import files

_BUILDING = threading.Lock()  # the database that alembic migrates is global to the process


def create_database(uri: str) -> None:
    """Create the database of a `sqlite:///PATH` store that does not exist yet; leave other stores alone.

    MLflow itself builds a database in place with tens of migrations, which take seconds. It refuses other connections
    during that time, and permanently if the process is killed before the end. Here the database is built in a
    temporary folder and then moved into place.

    Args:
        uri: Tracking URI of the store.

    Raises:
        StorageError: The file cannot be written.
    """
    if not uri.startswith("sqlite:"):
        return
    name = sqlalchemy.make_url(uri).database
    if not name or name.startswith((":memory:", "file:")) or Path(name).exists():
        return
    with _BUILDING, tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "mlflow.db"
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{built}")
        utils._initialize_tables(engine)  # what MLflow itself calls; it has no public function for this
        engine.dispose()
        files.create(Path(name), built.read_bytes())
