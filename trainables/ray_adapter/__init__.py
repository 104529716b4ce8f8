"""Ray adapter: the Tune trainable, its messages to the driver, and its checkpoint store."""
