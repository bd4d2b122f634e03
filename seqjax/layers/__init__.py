"""Layers: a chunk of ticks at a time, time scanned (`recurrent`) or mapped (`pointwise`)."""
