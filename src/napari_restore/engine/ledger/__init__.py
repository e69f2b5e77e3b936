"""Crash-safe storage of what a run has done: results, maps and layers, with journals, locks and leases.

"ledger" is a word of docs/glossary.md.
"""
