"""Made-up haze, training, and scores: how the shipped weights came about and what they are worth."""
