"""Models: the interface every adapter keeps, cards, and the registry of cards."""
