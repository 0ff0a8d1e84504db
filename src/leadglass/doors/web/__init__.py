"""The web door: the console for people, and what other programs ask over HTTPS."""
