"""The paper's experiments and the systems it measures itself against, one file for each row."""

from model.experiments.catalogue import get, names, select

__all__ = ["get", "names", "select"]
