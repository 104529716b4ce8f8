"""The only room of `trainables` that knows Ray: the Tune trainable, its messages and its checkpoint store."""
