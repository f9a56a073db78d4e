"""Measurements: what a call costs here, beside what it costs elsewhere, in the same run."""
