"""The read models: what each folds, stores and answers."""
