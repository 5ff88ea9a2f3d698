"""The app behind us."""
