"""Training: length-bucketed batches, the teacher's cached outputs, and a loop that resumes at its step."""
