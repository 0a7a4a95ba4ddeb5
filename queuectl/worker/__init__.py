"""Processes: the supervisor, its workers, the commands that they run, and their outputs."""
