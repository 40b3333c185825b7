"""Which approach a person's own data call for: several of them on the same examples, and what follows."""
