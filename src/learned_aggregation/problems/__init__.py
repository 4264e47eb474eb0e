"""Inner problems: a task trained by federated rounds, and what changes one."""
