"""Data: toys with known densities, tables, images and dequantisation."""
