"""The server: an HTTP API, micro-batching across requests, jobs on files, and the page."""
