"""What does the kernel let through? The flows of a site as one nftables table, and the proof that the kernel's table says the same. Pure."""
