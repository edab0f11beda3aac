"""Experiments of the papers, and of our own, as data; run, reported and exported by one command."""
