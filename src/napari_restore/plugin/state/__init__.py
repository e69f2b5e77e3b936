"""What the window knows: the chosen image, method and area, and what they ask."""
