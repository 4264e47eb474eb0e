"""Handwritten digits at non-IID clients, aggregated by learned-aggregation."""
