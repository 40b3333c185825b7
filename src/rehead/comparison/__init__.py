"""Which approach a person's own data call for: several on the same examples; and a search for settings."""
