"""What the web frameworks' parts share, and which knows none of them."""
