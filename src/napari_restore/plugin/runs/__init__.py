"""Runs: plans, drafts, live results, several images, and the controller of all."""
