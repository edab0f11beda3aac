"""Studies of Adaptive Batch Scaling (Park 2026), and of what it leaves open."""
