"""What the agents have in common: the one replay train step, rollouts, and what both share."""
