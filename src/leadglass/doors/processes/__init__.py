"""The shells of the processes: supervisor, DIMSE worker, keeper."""
