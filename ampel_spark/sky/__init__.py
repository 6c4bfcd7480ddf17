"""Positions on the sky: HEALPix pixels, regions, dust maps, and catalogues with their matches."""
