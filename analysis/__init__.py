"""What it means: results of a study as pandas frames, figures and one report."""
