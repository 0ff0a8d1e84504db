"""Who is talking to us? Every conversation with a peer, a person or an operator, and the one table of replies."""
