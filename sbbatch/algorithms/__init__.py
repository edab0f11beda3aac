"""The agents: one recipe a file, on two bases."""
