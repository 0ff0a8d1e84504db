"""How fast, against whom? The same corpus and the same DCMTK sender against Leadglass, Orthanc and DCMTK's storescp, interleaved."""
