"""HTTP by the book: one file per RFC section, each test a scripted exchange over real sockets."""
