"""Files of archives, whatever their format, read into batches of packets."""
