"""Budgets of memory, devices, threads and precisions, and what fails for lack of them."""
