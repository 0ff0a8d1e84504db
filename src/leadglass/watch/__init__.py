"""Is it odd, and then what? What the keeper looks at between events; each finding goes through the gateway's `keep_watch`."""
