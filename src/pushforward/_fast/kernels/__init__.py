"""Fast forms of single maps, networks and passes over many rows; torch alone."""
