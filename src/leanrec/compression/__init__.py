"""Plans and transforms that make a recommender lean, and what each step bought and cost."""
