"""Programs that drive other queues; they run in the peers' environment and print a JSON value."""
