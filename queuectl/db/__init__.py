"""The only room that knows how a database behaves."""
