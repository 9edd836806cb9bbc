"""Raw folders -> a checked data set of side-by-side pairs: what `p2p-prepare` does."""
