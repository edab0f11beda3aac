"""Experiments of the papers, as data and one command each."""
