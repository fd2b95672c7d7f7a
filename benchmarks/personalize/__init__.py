"""What personalizing costs, beside one look at the pictures and beside what people would do otherwise."""
