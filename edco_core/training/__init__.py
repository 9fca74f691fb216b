"""Trainers: one interval each, on TRL."""
