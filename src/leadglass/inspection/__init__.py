"""Is it what it says, and harmless? It reads what the index and the viewer read, with the same reader."""
