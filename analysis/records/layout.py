"""Names of what a study writes to its folder beside checkpoints and the sources of plug-ins."""

CONFIG_FILE, JOURNAL_FILE = "study.yaml", "journal.jsonl"
RUNS_FILE, CURVES_FILE, PER_IMAGE_FILE = "runs.parquet", "curves.parquet", "per_image.parquet"
VERDICTS_FILE, EFFECTS_FILE = "verdicts.csv", "effects.csv"
REPORT_FILE, FIGURES = "report.html", "figures"
HEADLINE_FILE = "headline.md"  # the report's first sentences
RECOMMENDED_FILE = "recommended.yaml"  # the chosen configurations, as the configuration of a new study
MLFLOW_FILE = "mlflow.json"  # what MLflow has received
ENCODERS = "encoders"
