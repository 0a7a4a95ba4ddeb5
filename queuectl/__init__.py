"""queuectl: a background job queue for the command line."""

__version__ = "0.1.0"
