"""The operating system: processes, foreign programs, files that cannot be read, the variables and locale of a user."""
