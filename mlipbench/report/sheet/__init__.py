"""All that is known of one model, on one page."""
