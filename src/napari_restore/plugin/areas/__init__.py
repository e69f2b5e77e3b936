"""The area that is restored: drawn, painted, chosen; and what is excluded."""
