"""The cells of the literature, one family a file."""
