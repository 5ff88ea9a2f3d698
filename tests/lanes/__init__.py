"""Law 6: whoever answers, the hot lane, the warm lane or a task, the bytes are the same."""
