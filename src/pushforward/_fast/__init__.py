"""What exists for speed alone: each piece is tested equal to the plain form that it stands for, and can be deleted."""
