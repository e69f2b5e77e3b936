"""What is restored: drawn, painted, chosen, left out."""
