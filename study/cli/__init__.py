"""The command lines: `python study/run.py` and `python -m study`."""
