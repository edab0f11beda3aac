"""Studies of the small-batch paper (Obando-Ceron et al. 2023), and of what it leaves open."""
