"""Budgets of memory, and the devices that have it."""
