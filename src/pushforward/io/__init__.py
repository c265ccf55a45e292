"""What comes in and goes out: tables in files and frames, and model files."""
