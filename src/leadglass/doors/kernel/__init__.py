"""How do we speak with the kernel's packet filter? `nft` loads and lists tables; netlink tells of drops and ends connections."""
