"""Export: encoders as files and MLflow models, features of the user's own images, recommended configurations."""
