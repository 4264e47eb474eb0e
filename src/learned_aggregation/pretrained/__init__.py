"""Meta-trained aggregators as files, and ready to use."""
