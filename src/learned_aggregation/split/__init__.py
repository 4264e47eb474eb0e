"""Split learning: a model cut in two, a bottleneck at the cut, and everything averaged through an aggregator."""
