"""Export: encoders as files and as MLflow models, features of one's own images, recommended configurations."""
