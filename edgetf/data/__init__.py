"""Labelled text: where it comes from, how it is cleaned and split, and who guards the evaluation rows."""
