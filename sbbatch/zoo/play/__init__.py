"""Trained agents playing: scores, windows, films."""
