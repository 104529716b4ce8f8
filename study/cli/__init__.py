"""The command lines: `python study/run.py` runs a study, `python -m study` inspects existing ones."""
