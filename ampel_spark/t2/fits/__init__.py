"""What fits of light-curve models are made of: targets, points, models, engines, results."""
