"""Ray adapter: the Tune trainable, its messages to the driver, its checkpoint store, and the cores that Ray finds."""
