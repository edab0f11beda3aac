"""``sbbatch tune``: hyperparameter search with Optuna."""
