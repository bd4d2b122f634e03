"""Colours of figures that colour-blind readers can tell apart."""

# Okabe and Ito (2008), Color universal design: blue, vermilion, bluish green, reddish purple, orange.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
