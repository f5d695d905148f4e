"""Run a deployable file: backends, text to ids, the runner process, timing. Needs numpy and one runtime."""
