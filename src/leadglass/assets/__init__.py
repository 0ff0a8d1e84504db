"""What is on our network? An inventory made of what was seen, not of what somebody wrote down."""
