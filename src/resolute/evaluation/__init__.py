"""How often a network is right, on clean images and on shifted ones."""
