"""Experiments: one file for each reproduction of a paper, and a few questions of our own. Not installed."""
