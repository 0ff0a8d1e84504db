"""What do the bytes say? The DICOM upper layer, DIMSE and data sets as pure machines: bytes and time in, events and bytes out.

Nothing here owns a socket, a clock or a thread. Whatever the bytes are, only the errors of `leadglass.wire.errors` leave this package.
"""
