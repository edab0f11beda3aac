"""What scores say: aggregates over games and seeds, with their uncertainty."""
