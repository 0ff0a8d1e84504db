"""Who is it? Device certificates: the authorities that issue them, and the checks that turn a connection into a device."""
