"""Batches of packets committed once, chunk by chunk, all accounted for."""
