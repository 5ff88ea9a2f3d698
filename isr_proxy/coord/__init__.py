"""Who may regenerate, and what was purged."""
