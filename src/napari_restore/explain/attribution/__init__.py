"""Which pixels a restoration came from: paths, baselines, objectives, sums and methods of others."""
