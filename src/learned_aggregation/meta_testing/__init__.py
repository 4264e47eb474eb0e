"""Meta-testing: many seeds and settings in one program, and what is read off their curves."""
