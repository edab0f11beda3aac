"""Models, replay memory and statistics in files, ours and SB3's."""
