"""Is this adapter right? A worker with the model loaded, one check after the other, and what they found."""
