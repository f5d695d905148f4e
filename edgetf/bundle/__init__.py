"""What goes along with a model to where it is used."""
