"""Training by the trainers of other packages: one file a package, and what they share."""
