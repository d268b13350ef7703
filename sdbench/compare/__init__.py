"""Records compared with each other, and claims checked against them."""
