"""The DIMSE door: sockets, TLS and threads around the sans-IO core of `wire/`."""
