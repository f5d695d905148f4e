"""What each command does once its words are parsed; each gives its exit code."""
