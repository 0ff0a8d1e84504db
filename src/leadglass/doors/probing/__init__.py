"""Probes between real hosts: small packets that say who sent them, to whoever the site file names, and to nobody else."""
