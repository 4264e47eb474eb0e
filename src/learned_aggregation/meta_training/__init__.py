"""Meta-training: estimators of the meta-gradient, the outer step, the loop around it."""
