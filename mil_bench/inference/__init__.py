"""Trained models on new slides: predictions of each model, their mean, and scores."""
