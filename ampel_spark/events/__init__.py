"""Events: regions of the sky with a time, in revisions, and what of the archive lies in them."""
