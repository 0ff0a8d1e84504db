"""Where does it rest? Sealed segments, the numbered commit, recovery, reading, conflicts, the index and its rebuilding.

Truth is in the segments (`docs/formats.md`); the index is a projection of their trailers.
"""
