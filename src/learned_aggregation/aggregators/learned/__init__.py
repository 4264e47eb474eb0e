"""The mathematics shared by the learned aggregators: accumulators, features, network."""
