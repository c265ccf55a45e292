"""Whole training steps with gradients written out by hand."""
